// What follows a sum, over the names of simd/README.md; included by the gemm kernels of each instruction set.
#ifndef FERRULE_KERNELS_GEMM_EPILOGUE_H
#define FERRULE_KERNELS_GEMM_EPILOGUE_H

#include "ferrule/gemm.h"
#include "simd/activation.h"

namespace {

// The int8 codes of y as floats, in [-128, 127]; NaN becomes the zero point. `inverse` of the scale.
inline F32 requantize(F32 y, F32 inverse, F32 zero) {
  const F32 code = add(round_even(mul(y, inverse)), zero);
  const F32 bounded = min(max(code, splat(-128)), splat(127));
  return select(is_nan(code), zero, bounded);
}

inline F32 requantize(const ferrule_epilogue& epilogue, F32 y) {
  return requantize(y, splat(1 / epilogue.output_scale), splat(static_cast<float>(epilogue.output_zero)));
}

// Writes output[row][column ..] for the first `count` of kLanes sums, bias added.
inline void finish(const ferrule_gemm_args& args, size_t row, size_t column, size_t count, F32 y) {
  const ferrule_epilogue& epilogue = args.epilogue;
  y = activate(epilogue.activation, y);
  if (epilogue.residual)
    y = add(y, load_some(epilogue.residual + row * epilogue.residual_stride + column, count));
  const size_t at = row * args.output_stride + column;
  if (epilogue.output_scale == 0)
    store_some(static_cast<float*>(args.output) + at, y, count);
  else
    store_codes(static_cast<int8_t*>(args.output) + at, requantize(epilogue, y), count);
}

}  // namespace

#endif
