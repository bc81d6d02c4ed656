#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/peak/arm.h"

namespace {

double multiply_codes(size_t units) {
  int32x4_t sums[kChains];
#pragma GCC unroll 24
  for (size_t c = 0; c < kChains; ++c) sums[c] = vdupq_n_s32(static_cast<int32_t>(c));
  const int8x16_t a = vdupq_n_s8(3), b = vdupq_n_s8(-2);
  for (size_t i = 0; i < units * kRounds; ++i) {
#pragma GCC unroll 24
    for (size_t c = 0; c < kChains; ++c) sums[c] = vdotq_s32(sums[c], a, b);
  }
  int32x4_t total = vdupq_n_s32(0);
#pragma GCC unroll 24
  for (size_t c = 0; c < kChains; ++c) total = vaddq_s32(total, sums[c]);
  return vaddvq_s32(total);
}

}  // namespace

void ferrule_peak_dotprod(const ferrule_peak_args* args, size_t begin, size_t end, void*) {
  run_peak(*args, end - begin, 16);
}
