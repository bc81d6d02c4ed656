#include <math.h>

#include "kernels/declarations.h"

// In double.
void ferrule_mean_tokens_scalar(const ferrule_mean_tokens_args* args, size_t begin, size_t end, void*) {
  for (size_t b = begin; b < end; ++b) {
    const float* input = args->input + b * args->input_batch_stride;
    const uint8_t* mask = args->mask ? args->mask + b * args->mask_stride : nullptr;
    float* output = args->output + b * args->output_stride;
    double squares = 0;
    for (size_t i = 0; i < args->width; ++i) {
      double sum = 0;
      size_t count = 0;
      for (size_t t = 0; t < args->tokens; ++t) {
        if (mask && !mask[t]) continue;
        sum += static_cast<double>(input[t * args->input_token_stride + i]);
        ++count;
      }
      output[i] = count ? static_cast<float>(sum / static_cast<double>(count)) : 0;
      squares += static_cast<double>(output[i]) * static_cast<double>(output[i]);
    }
    if (!args->normalize) continue;
    const double length = fmax(sqrt(squares), 1e-12);
    for (size_t i = 0; i < args->width; ++i)
      output[i] = static_cast<float>(static_cast<double>(output[i]) / length);
  }
}
