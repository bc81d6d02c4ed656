#include "simd/neon.h"
#include "kernels/declarations.h"

#include "kernels/peak/arm.h"

namespace {

// Products are 16 bits wide and wrap here; a kernel also has to widen them (sadalp), once for two of these.
double multiply_codes(size_t units) {
  int16x8_t sums[kChains];
#pragma GCC unroll 24
  for (size_t c = 0; c < kChains; ++c) sums[c] = vdupq_n_s16(static_cast<int16_t>(c));
  const int8x8_t a = vdup_n_s8(3), b = vdup_n_s8(-2);
  for (size_t i = 0; i < units * kRounds; ++i) {
#pragma GCC unroll 24
    for (size_t c = 0; c < kChains; ++c) sums[c] = vmlal_s8(sums[c], a, b);
  }
  int16x8_t total = vdupq_n_s16(0);
#pragma GCC unroll 24
  for (size_t c = 0; c < kChains; ++c) total = vaddq_s16(total, sums[c]);
  return vaddvq_s16(total);
}

}  // namespace

void ferrule_peak_neon(const ferrule_peak_args* args, size_t begin, size_t end, void*) {
  run_peak(*args, end - begin, 8);
}
