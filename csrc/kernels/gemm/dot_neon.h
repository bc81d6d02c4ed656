// Products of four neighbouring k with the instructions of every AArch64 CPU, for arm_rows.h.
#ifndef FERRULE_KERNELS_GEMM_DOT_NEON_H
#define FERRULE_KERNELS_GEMM_DOT_NEON_H

#include <arm_neon.h>
#include <stddef.h>

namespace {

constexpr size_t kMostRows = 4;

// Each column has two lanes: of its k 0 and 1, and of its k 2 and 3.
struct Sums {
  int32x4_t low, high;
};

inline Sums no_sums() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }

inline int32x4_t total(Sums sums) { return vpaddq_s32(sums.low, sums.high); }

// A sum of two int16 products could overflow at -128 * -128 twice, so they are widened before they are added.
template <size_t kLane>
inline Sums dot(Sums sums, int8x16_t weights, int8x16_t codes) {
  const int8x16_t four = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(codes), kLane));
  sums.low = vpadalq_s16(sums.low, vmull_s8(vget_low_s8(weights), vget_low_s8(four)));
  sums.high = vpadalq_s16(sums.high, vmull_high_s8(weights, four));
  return sums;
}

}  // namespace

#endif
