// What follows a sum, over the names of simd/README.md; included by the gemm kernels of each instruction set.
#ifndef FERRULE_KERNELS_GEMM_EPILOGUE_H
#define FERRULE_KERNELS_GEMM_EPILOGUE_H

#include <math.h>

#include "ferrule/gemm.h"
#include "simd/activation.h"

namespace {

// The int8 codes of y as floats, in [-128, 127]; NaN becomes the zero point. `inverse` of the scale.
inline F32 requantize(F32 y, F32 inverse, F32 zero) {
  const F32 code = add(round_even(mul(y, inverse)), zero);
  const F32 bounded = min(max(code, splat(-128)), splat(127));
  return select(is_nan(code), zero, bounded);
}

// What is the same for all outputs of a tile. An activation that only bounds its input is two instructions,
// without a branch.
struct Epilogue {
  explicit Epilogue(const ferrule_epilogue& epilogue)
      : bounds(is_bounds(epilogue.activation)),
        is_relu6(epilogue.activation == FERRULE_ACTIVATION_RELU6),
        lowest(splat(epilogue.activation == FERRULE_ACTIVATION_NONE ? -HUGE_VALF : 0)),
        highest(splat(epilogue.activation == FERRULE_ACTIVATION_RELU6 ? 6 : HUGE_VALF)),
        inverse(splat(1 / epilogue.output_scale)),
        zero(splat(static_cast<float>(epilogue.output_zero))) {}

  F32 bound(F32 y) const { return min(highest, max(lowest, y)); }

  bool bounds, is_relu6;
  F32 lowest, highest;
  F32 inverse, zero;  // of the output's codes
};

// Writes output[row][column ..] for the first `count` of kLanes sums, bias added. kBounds: all.bounds.
template <bool kBounds>
inline void finish_as(const ferrule_gemm_args& args, const Epilogue& all, size_t row, size_t column,
                      size_t count, F32 y) {
  const ferrule_epilogue& epilogue = args.epilogue;
  y = kBounds ? all.bound(y) : activate(epilogue.activation, y);
  if (epilogue.residual)
    y = add(y, load_some(epilogue.residual + row * epilogue.residual_stride + column, count));
  const size_t at = row * args.output_stride + column;
  if (epilogue.output_scale == 0)
    store_some(static_cast<float*>(args.output) + at, y, count);
  else
    store_codes(static_cast<int8_t*>(args.output) + at, requantize(y, all.inverse, all.zero), count);
}

inline void finish(const ferrule_gemm_args& args, const Epilogue& all, size_t row, size_t column,
                   size_t count, F32 y) {
  (all.bounds ? finish_as<true> : finish_as<false>)(args, all, row, column, count, y);
}

}  // namespace

#endif
