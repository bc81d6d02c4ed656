#include "kernels/declarations.h"

// The definition that every other gemv_i8 kernel is held to.
void ferrule_gemv_i8_scalar(const ferrule_gemv_i8_args* args) {
  for (size_t n = 0; n < args->rows; ++n) {
    const int8_t* row = args->weights + n * args->depth;
    int32_t sum = 0;
    for (size_t k = 0; k < args->depth; ++k) {
      sum += row[k] * (args->activations[k] - args->activation_zero);
    }
    const float scaled = args->activation_scale * args->weight_scales[n] * static_cast<float>(sum);
    args->output[n] = args->bias ? scaled + args->bias[n] : scaled;
  }
}
