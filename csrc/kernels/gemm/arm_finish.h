// From the sums of a row over the 8 columns of a panel to its outputs, for the gemm kernels of ARM.
#ifndef FERRULE_KERNELS_GEMM_ARM_FINISH_H
#define FERRULE_KERNELS_GEMM_ARM_FINISH_H

#include "kernels/gemm/epilogue.h"
#include "kernels/gemm/panel.h"

namespace {

constexpr size_t kColumns = 8;

// y[h]: columns 4h to 4h + 3.
inline void finish_columns(const ferrule_gemm_args& args, const Panel& panel, size_t row, F32 (&y)[2]) {
#pragma GCC unroll 2
  for (size_t h = 0; h < 2; ++h) {
    const size_t column = h * kLanes;
    if (column >= panel.count) return;
    const F32 scale = mul(splat(args.input_scales[row]), load(panel.scales + column));
    const F32 value = add(mul(y[h], scale), load(panel.bias + column));
    const size_t count = panel.count - column < kLanes ? panel.count - column : kLanes;
    finish(args, row, panel.first + column, count, value);
  }
}

// Sums of codes times 2^shift.
inline void finish_sums(const ferrule_gemm_args& args, const Panel& panel, size_t row, int shift,
                        int32x4_t left, int32x4_t right) {
  const auto* columns = static_cast<const int32_t*>(panel.sums);
  const int32x4_t down = vdupq_n_s32(-shift), zero = vdupq_n_s32(args.input_zeros[row]);
  F32 y[2] = {vcvtq_f32_s32(vmlsq_s32(vshlq_s32(left, down), vld1q_s32(columns), zero)),
              vcvtq_f32_s32(vmlsq_s32(vshlq_s32(right, down), vld1q_s32(columns + kLanes), zero))};
  finish_columns(args, panel, row, y);
}

// Sums of group scales times codes.
inline void finish_groups(const ferrule_gemm_args& args, const Panel& panel, size_t row, F32 left,
                          F32 right) {
  const auto* columns = static_cast<const float*>(panel.sums);
  const F32 zero = splat(static_cast<float>(args.input_zeros[row]));
  F32 y[2] = {fnma(zero, load(columns), left), fnma(zero, load(columns + kLanes), right)};
  finish_columns(args, panel, row, y);
}

// Scales of a group, divided by 2^shift.
inline void load_group_scales(const Panel& panel, size_t group, int shift, F32 (&scales)[2]) {
  const uint16x8_t halves = vld1q_u16(panel.group_scales + group * kColumns);
  const F32 unit = splat(1.0f / static_cast<float>(1 << shift));
  scales[0] = mul(vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(halves), 16)), unit);
  scales[1] = mul(vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(halves), 16)), unit);
}

}  // namespace

#endif
