#include <math.h>

#include "kernels/declarations.h"

// The sum is in double.
void ferrule_rms_norm_scalar(const ferrule_rms_norm_args* args, size_t begin, size_t end, void*) {
  const size_t width = args->width;
  for (size_t r = begin; r < end; ++r) {
    const float* input = args->input + r * args->input_stride;
    const float* residual = args->residual ? args->residual + r * args->residual_stride : nullptr;
    float* output = args->output + r * args->output_stride;
    float* x =
        args->sum ? args->sum + r * args->sum_stride : output;  // `output` holds x until it is normalized

    double squares = 0;
    for (size_t i = 0; i < width; ++i) {
      x[i] = residual ? input[i] + residual[i] : input[i];
      squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    }
    const double inverse =
        1 / sqrt(squares / static_cast<double>(width) + static_cast<double>(args->epsilon));
    for (size_t i = 0; i < width; ++i) {
      const auto normal = static_cast<float>(static_cast<double>(x[i]) * inverse);
      output[i] = args->weight ? normal * args->weight[i] : normal;
    }
  }
}
