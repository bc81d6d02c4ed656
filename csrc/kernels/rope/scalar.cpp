#include "kernels/declarations.h"

namespace {

void turn_head(const ferrule_rope_args& args, const float* cosines, const float* sines, const float* input,
               float* output) {
  const size_t half = args.rotary / 2;
  const bool neighbours = args.pairs == FERRULE_ROPE_NEIGHBOURS;
  for (size_t i = 0; i < half; ++i) {
    const size_t first = neighbours ? 2 * i : i, second = neighbours ? 2 * i + 1 : i + half;
    const float a = input[first], b = input[second];
    output[first] = a * cosines[i] - b * sines[i];
    output[second] = b * cosines[i] + a * sines[i];
  }
  for (size_t i = args.rotary; i < args.width; ++i) output[i] = input[i];
}

}  // namespace

void ferrule_rope_scalar(const ferrule_rope_args* args, size_t begin, size_t end, void*) {
  const size_t half = args->rotary / 2;
  for (size_t t = begin; t < end; ++t) {
    const size_t row = args->positions ? static_cast<size_t>(args->positions[t]) : args->first_position + t;
    for (size_t head = 0; head < args->heads; ++head) {
      turn_head(*args, args->cosines + row * half, args->sines + row * half,
                args->input + t * args->input_token_stride + head * args->input_head_stride,
                args->output + t * args->output_token_stride + head * args->output_head_stride);
    }
  }
}
