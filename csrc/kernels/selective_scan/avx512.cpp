#include "simd/avx512.h"
#include "kernels/declarations.h"
#include "simd/transpose.h"

#include "kernels/selective_scan/block.h"
#include "kernels/selective_scan/tile.h"

namespace {

constexpr float kLargest = 1e10f;

// 2^(j / 32) of the lower and upper 16 j.
alignas(64) const float kPowers[32] = {
    1.0f,        1.0218972f,  1.04427373f, 1.06714046f, 1.09050775f, 1.1143868f,  1.13878858f, 1.1637249f,
    1.18920708f, 1.21524739f, 1.24185777f, 1.26905096f, 1.29683959f, 1.32523668f, 1.35425556f, 1.38390994f,
    1.41421354f, 1.44518077f, 1.47682619f, 1.50916445f, 1.54221082f, 1.5759809f,  1.61049032f, 1.64575553f,
    1.68179286f, 1.71861935f, 1.75625217f, 1.79470909f, 1.8340081f,  1.87416768f, 1.91520655f, 1.95714414f};

// x * y = n + r with n a multiple of 1/32. Adding 1.5 * 2^18, whose last bit is worth 1/32, rounds to n and
// leaves 32 n in the low bits; the table takes five of them, scalef the rest, and r, exact by the fused
// product, goes by a polynomial that is within 6e-8 of 2^r. Products beyond 2^17 lose digits of r, but their
// power is 0 or infinite whatever it is.
inline F32 power_of_two(F32 x, F32 y) {
  const F32 magic = splat(393216.0f);
  const F32 shifted = fma(x, y, magic);
  const F32 n = sub(shifted, magic);
  const F32 r = _mm512_fmsub_ps(x, y, n);
  const F32 p = mul(fma(splat(0.24022653f), r, splat(0.69315733f)), r);
  const F32 power = _mm512_permutex2var_ps(_mm512_load_ps(kPowers), _mm512_castps_si512(shifted),
                                           _mm512_load_ps(kPowers + 16));
  return scale_by_power(fma(power, p, power), n);
}

}  // namespace

#include "kernels/selective_scan/vector.h"

void ferrule_selective_scan_avx512(const ferrule_selective_scan_args* args, size_t begin, size_t end,
                                   void* scratch) {
  selective_scan(*args, begin, end, scratch);
}
