#include <math.h>

#include "kernels/declarations.h"

// The definition that every other layer_norm kernel is held to. Sums are in double.
void ferrule_layer_norm_scalar(const ferrule_layer_norm_args* args, size_t begin, size_t end, void*) {
  const size_t width = args->width;
  for (size_t r = begin; r < end; ++r) {
    const float* input = args->input + r * args->input_stride;
    const float* residual = args->residual ? args->residual + r * args->residual_stride : nullptr;
    float* output = args->output + r * args->output_stride;
    float* sum =
        args->sum ? args->sum + r * args->sum_stride : output;  // `output` holds x until it is normalized

    double total = 0;
    for (size_t i = 0; i < width; ++i) {
      sum[i] = residual ? input[i] + residual[i] : input[i];
      total += sum[i];
    }
    const double mean = total / static_cast<double>(width);
    double squares = 0;
    for (size_t i = 0; i < width; ++i) squares += (sum[i] - mean) * (sum[i] - mean);
    const double inverse = 1 / sqrt(squares / static_cast<double>(width) + args->epsilon);
    for (size_t i = 0; i < width; ++i) {
      const auto normal = static_cast<float>((sum[i] - mean) * inverse);
      output[i] = (args->weight ? normal * args->weight[i] : normal) + (args->bias ? args->bias[i] : 0);
    }
  }
}
