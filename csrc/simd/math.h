// Functions of vectors, written once over the names of simd/{avx2,avx512,neon}.h, which include this file.
//
// tests/activation.cpp holds them to the C library. NaN in, NaN out.
#ifndef FERRULE_SIMD_MATH_H
#define FERRULE_SIMD_MATH_H

namespace {

inline F32 keep_nan(F32 from, F32 value) { return select(is_nan(from), from, value); }

// e^x = 2^n * e^r with |r| <= ln(2)/2, the logarithm in two parts (Cody and Waite) and a polynomial of
// degree 6. Zero below -104 and infinite above 89, as the true function rounds to.
inline F32 exponential(F32 x) {
  const F32 bounded = max(min(x, splat(89.0f)), splat(-104.0f));
  const F32 n = round_even(mul(bounded, splat(1.44269504f)));
  F32 r = fnma(n, splat(0.693145752f), bounded);
  r = fnma(n, splat(1.42860677e-6f), r);
  F32 p = splat(1.38889e-3f);
  p = fma(p, r, splat(8.333336e-3f));
  p = fma(p, r, splat(4.1666668e-2f));
  p = fma(p, r, splat(0.16666667f));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  return keep_nan(x, scale_by_power(p, n));
}

inline F32 sigmoid(F32 x) { return div(splat(1.0f), add(splat(1.0f), exponential(sub(zeros(), x)))); }

inline F32 silu(F32 x) { return div(x, add(splat(1.0f), exponential(sub(zeros(), x)))); }

// 1 - 2 / (e^2x + 1) loses digits near zero, so the sign is taken off and small arguments go by the odd
// series.
inline F32 hyperbolic_tangent(F32 x) {
  const F32 a = abs(x);
  const F32 large = sub(splat(1.0f), div(splat(2.0f), add(exponential(add(a, a)), splat(1.0f))));
  const F32 s = mul(a, a);
  F32 p = splat(-0.053968254f);
  p = fma(p, s, splat(0.13333334f));
  p = fma(p, s, splat(-0.33333334f));
  const F32 small = fma(mul(p, s), a, a);
  return keep_nan(x, copy_sign(select(less(a, splat(0.25f)), small, large), x));
}

// Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: 1 - P(t) e^(-x^2), t = 1 / (1 + p x),
// which is within 1.5e-7 of the true value before rounding.
inline F32 error_function(F32 x) {
  const F32 a = abs(x);
  const F32 t = div(splat(1.0f), fma(a, splat(0.3275911f), splat(1.0f)));
  F32 p = splat(1.061405429f);
  p = fma(p, t, splat(-1.453152027f));
  p = fma(p, t, splat(1.421413741f));
  p = fma(p, t, splat(-0.284496736f));
  p = fma(p, t, splat(0.254829592f));
  const F32 tail = mul(mul(p, t), exponential(sub(zeros(), mul(a, a))));
  return keep_nan(x, copy_sign(sub(splat(1.0f), tail), x));
}

// x * Phi(x), the normal distribution by the error function.
inline F32 gelu_exact(F32 x) {
  return mul(mul(splat(0.5f), x), add(splat(1.0f), error_function(mul(x, splat(0.70710678f)))));
}

inline F32 gelu_by_tanh(F32 x) {
  const F32 inner = mul(splat(0.79788456f), fma(mul(mul(x, x), x), splat(0.044715f), x));
  // 0.5 (1 + tanh y) is the logistic function of 2y.
  return mul(x, sigmoid(add(inner, inner)));
}

inline F32 relu(F32 x) { return max(zeros(), x); }

inline F32 relu6(F32 x) { return min(splat(6.0f), relu(x)); }

inline F32 hard_swish(F32 x) { return mul(mul(x, relu6(add(x, splat(3.0f)))), splat(1.0f / 6)); }

}  // namespace

#endif
