// The activations of ferrule/gemm.h over the names of simd/{avx2,avx512,neon}.h, one of which must come
// before this file.
#ifndef FERRULE_SIMD_ACTIVATION_H
#define FERRULE_SIMD_ACTIVATION_H

#include "ferrule/gemm.h"

namespace {

// Whether an activation does nothing but bound its input.
constexpr bool is_bounds(ferrule_activation activation) {
  return activation == FERRULE_ACTIVATION_NONE || activation == FERRULE_ACTIVATION_RELU ||
         activation == FERRULE_ACTIVATION_RELU6;
}

// What such an activation makes of codes; `highest` need not be a whole number.
struct Bounds {
  int lowest;
  F32 highest;
};

inline Bounds bound_codes(const ferrule_epilogue& epilogue) {
  const F32 zero = splat(static_cast<float>(epilogue.output_zero));
  const F32 six = fma(splat(6), splat(1 / epilogue.output_scale), zero);
  return {epilogue.activation == FERRULE_ACTIVATION_NONE ? -128 : epilogue.output_zero,
          epilogue.activation == FERRULE_ACTIVATION_RELU6 ? min(six, splat(127)) : splat(127)};
}

inline F32 activate(ferrule_activation activation, F32 x) {
  switch (activation) {
    case FERRULE_ACTIVATION_NONE:
      return x;
    case FERRULE_ACTIVATION_RELU:
      return relu(x);
    case FERRULE_ACTIVATION_GELU:
      return gelu_exact(x);
    case FERRULE_ACTIVATION_GELU_TANH:
      return gelu_by_tanh(x);
    case FERRULE_ACTIVATION_SILU:
      return silu(x);
    case FERRULE_ACTIVATION_RELU6:
      return relu6(x);
    case FERRULE_ACTIVATION_HARD_SWISH:
      return hard_swish(x);
  }
  return x;
}

}  // namespace

#endif
