// Products of four neighbouring k by sdot, for arm_rows.h.
#ifndef FERRULE_KERNELS_GEMM_DOT_DOTPROD_H
#define FERRULE_KERNELS_GEMM_DOT_DOTPROD_H

#include <arm_neon.h>
#include <stddef.h>

namespace {

constexpr size_t kMostRows = 8;

using Sums = int32x4_t;

inline Sums no_sums() { return vdupq_n_s32(0); }

inline int32x4_t total(Sums sums) { return sums; }

template <size_t kLane>
inline Sums dot(Sums sums, int8x16_t weights, int8x16_t codes) {
  return vdotq_laneq_s32(sums, weights, codes, kLane);
}

}  // namespace

#endif
