// From the sums of a tile, rows by the 8 columns of a panel, to its outputs; for the gemm kernels of ARM.
#ifndef FERRULE_KERNELS_GEMM_ARM_FINISH_H
#define FERRULE_KERNELS_GEMM_ARM_FINISH_H

#include "kernels/gemm/epilogue.h"
#include "kernels/gemm/panel.h"

namespace {

constexpr size_t kColumns = 8;

// A row of a tile: columns 0 to 3, and 4 to 7.
struct RowValues {
  F32 half[2];
};

// Sums of codes times 2^shift as products of weights and inputs.
inline RowValues scale_sums(const ferrule_gemm_args& args, const Panel& panel, size_t row, int shift,
                            int32x4_t left, int32x4_t right) {
  const auto* columns = static_cast<const int32_t*>(panel.sums);
  const int32x4_t down = vdupq_n_s32(-shift), zero = vdupq_n_s32(args.input_zeros[row]);
  const F32 scale = splat(args.input_scales[row]);
  left = vmlsq_s32(vshlq_s32(left, down), vld1q_s32(columns), zero);
  right = vmlsq_s32(vshlq_s32(right, down), vld1q_s32(columns + kLanes), zero);
  return {{mul(vcvtq_f32_s32(left), mul(scale, load(panel.scales))),
           mul(vcvtq_f32_s32(right), mul(scale, load(panel.scales + kLanes)))}};
}

// The same of sums of group scales times codes.
inline RowValues scale_groups(const ferrule_gemm_args& args, const Panel& panel, size_t row, F32 left,
                              F32 right) {
  const auto* columns = static_cast<const float*>(panel.sums);
  const F32 zero = splat(static_cast<float>(args.input_zeros[row])), scale = splat(args.input_scales[row]);
  left = fnma(zero, load(columns), left);
  right = fnma(zero, load(columns + kLanes), right);
  return {{mul(left, mul(scale, load(panel.scales))), mul(right, mul(scale, load(panel.scales + kLanes)))}};
}

// Scales of a group, divided by 2^shift.
inline void load_group_scales(const Panel& panel, size_t group, int shift, F32 (&scales)[2]) {
  const uint16x8_t halves = vld1q_u16(panel.group_scales + group * kColumns);
  const F32 unit = splat(1.0f / static_cast<float>(1 << shift));
  scales[0] = mul(vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(halves), 16)), unit);
  scales[1] = mul(vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(halves), 16)), unit);
}

// Codes of whole rows of a panel. One scale for all rows is a number, so that no value is NaN; conversion and
// narrowing saturate, and activations are bounds of bytes.
inline void write_codes(const ferrule_gemm_args& args, const Panel& panel, size_t row, size_t rows,
                        const RowValues* values) {
  const Epilogue epilogue(args.epilogue);
  const Bounds bounds = bound_codes(args.epilogue);
  const F32 left = fma(load(panel.bias), epilogue.inverse, epilogue.zero);
  const F32 right = fma(load(panel.bias + kLanes), epilogue.inverse, epilogue.zero);
  const int8x8_t lowest = vdup_n_s8(static_cast<int8_t>(bounds.lowest));
  const int8x8_t highest = vdup_n_s8(static_cast<int8_t>(vgetq_lane_s32(vcvtnq_s32_f32(bounds.highest), 0)));
  int8_t* output = static_cast<int8_t*>(args.output) + row * args.output_stride + panel.first;
  for (size_t r = 0; r < rows; ++r, output += args.output_stride) {
    const int32x4_t low = vcvtnq_s32_f32(fma(values[r].half[0], epilogue.inverse, left));
    const int32x4_t high = vcvtnq_s32_f32(fma(values[r].half[1], epilogue.inverse, right));
    const int8x8_t codes = vqmovn_s16(vcombine_s16(vqmovn_s32(low), vqmovn_s32(high)));
    vst1_s8(output, vmin_s8(highest, vmax_s8(lowest, codes)));
  }
}

// Adds the bias and writes `rows` rows from `row` on.
void finish_rows(const ferrule_gemm_args& args, const Panel& panel, size_t row, size_t rows,
                 const RowValues* values) {
  const F32 left = load(panel.bias), right = load(panel.bias + kLanes);
  if (args.epilogue.activation == FERRULE_ACTIVATION_NONE && !args.epilogue.residual &&
      args.epilogue.output_scale == 0 && panel.count == kColumns) {
    float* output = static_cast<float*>(args.output) + row * args.output_stride + panel.first;
    for (size_t r = 0; r < rows; ++r, output += args.output_stride) {
      store(output, add(values[r].half[0], left));
      store(output + kLanes, add(values[r].half[1], right));
    }
    return;
  }
  const Epilogue epilogue(args.epilogue);
  if (args.uniform && epilogue.bounds && !args.epilogue.residual && args.epilogue.output_scale != 0 &&
      panel.count == kColumns)
    return write_codes(args, panel, row, rows, values);
  const size_t first = panel.count < kLanes ? panel.count : kLanes;
  const auto finish_all = [&](auto finish) {
    for (size_t r = 0; r < rows; ++r) {
      finish(args, epilogue, row + r, panel.first, first, add(values[r].half[0], left));
      if (panel.count > kLanes)
        finish(args, epilogue, row + r, panel.first + kLanes, panel.count - kLanes,
               add(values[r].half[1], right));
    }
  };
  if (epilogue.bounds)
    finish_all([](auto... all) { finish_as<true>(all...); });
  else
    finish_all([](auto... all) { finish_as<false>(all...); });
}

}  // namespace

#endif
