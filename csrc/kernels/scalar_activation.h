// The activations of ferrule/gemm.h as the scalar kernels define them.
#ifndef FERRULE_KERNELS_SCALAR_ACTIVATION_H
#define FERRULE_KERNELS_SCALAR_ACTIVATION_H

#include <math.h>

#include "ferrule/gemm.h"

namespace {

inline double bound_to_six(double x) { return x < 0 ? 0 : x > 6 ? 6 : x; }

inline double activate(ferrule_activation activation, double x) {
  switch (activation) {
    case FERRULE_ACTIVATION_NONE:
      return x;
    case FERRULE_ACTIVATION_RELU:
      return x < 0 ? 0 : x;
    case FERRULE_ACTIVATION_GELU:
      return 0.5 * x * (1 + erf(x * 0.7071067811865476));
    case FERRULE_ACTIVATION_GELU_TANH:
      return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case FERRULE_ACTIVATION_SILU:
      return x / (1 + exp(-x));
    case FERRULE_ACTIVATION_RELU6:
      return bound_to_six(x);
    case FERRULE_ACTIVATION_HARD_SWISH:
      return x * bound_to_six(x + 3) / 6;
  }
  return x;
}

}  // namespace

#endif
