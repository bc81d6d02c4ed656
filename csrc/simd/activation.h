// The activations of ferrule/gemm.h over the names of simd/{avx2,avx512,neon}.h, one of which must come
// before this file.
#ifndef FERRULE_SIMD_ACTIVATION_H
#define FERRULE_SIMD_ACTIVATION_H

#include "ferrule/gemm.h"

namespace {

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
