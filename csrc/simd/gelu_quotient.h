// GELU by the quotient of math.h; for simd/{avx2,neon}.h.
#ifndef FERRULE_SIMD_GELU_QUOTIENT_H
#define FERRULE_SIMD_GELU_QUOTIENT_H

namespace {

// x * Phi(x), Phi being exactly 0 below -5.54 and 1 above 5.54; the limit, zero, at -infinity.
inline F32 gelu_exact(F32 x) {
  const F32 above = max(splat(-5.54f), x);
  const F32 distribution = add(splat(0.5f), central_mass(min(splat(5.54f), above)));
  return mul(above, max(zeros(), min(splat(1.0f), distribution)));
}

}  // namespace

#endif
