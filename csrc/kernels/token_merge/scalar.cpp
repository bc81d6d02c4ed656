#include <string.h>

#include "kernels/declarations.h"
#include "kernels/token_merge/part.h"

// The definition that every other token_merge kernel is held to.
void ferrule_token_merge_scalar(const ferrule_token_merge_args* args, size_t begin, size_t end, void*) {
  for (size_t unit = begin; unit < end; ++unit) {
    const Part part = begin_part(*args, unit);
    const float* input = args->input + part.entry * args->input_batch_stride;
    float* output = args->output + part.entry * args->output_batch_stride;
    const auto put = [&](size_t row, size_t token, float share, bool is_first) {
      const float* from = input + token * args->input_stride;
      float* to = output + row * args->output_stride;
      for (size_t i = 0; i < args->width; ++i) to[i] = is_first ? from[i] * share : to[i] + from[i] * share;
    };
    const auto clear = [&](size_t row) {
      memset(output + row * args->output_stride, 0, args->width * sizeof(float));
    };
    for_tokens(*args, part, put, clear);
  }
}
