#include <math.h>

#include "kernels/declarations.h"

namespace {

// In double, but for y, which is a float as in the other kernels.
void soften_row(const ferrule_softmax_args& args, const float* input, const float* mask, float* output) {
  float highest = -HUGE_VALF;
  for (size_t i = 0; i < args.width; ++i) {
    output[i] = mask ? fmaf(args.scale, input[i], mask[i]) : args.scale * input[i];
    highest = fmaxf(highest, output[i]);
  }
  const double shift = highest == -HUGE_VALF ? 0 : static_cast<double>(highest);
  double sum = 0;
  for (size_t i = 0; i < args.width; ++i) sum += exp(static_cast<double>(output[i]) - shift);
  const double logarithm = sum == 0 ? 0 : log(sum);
  const double inverse = sum == 0 ? 0 : 1 / sum;
  for (size_t i = 0; i < args.width; ++i) {
    const double shifted = static_cast<double>(output[i]) - shift;
    output[i] = static_cast<float>(args.logarithm ? shifted - logarithm : exp(shifted) * inverse);
  }
}

}  // namespace

void ferrule_softmax_scalar(const ferrule_softmax_args* args, size_t begin, size_t end, void*) {
  for (size_t r = begin; r < end; ++r) {
    soften_row(*args, args->input + r * args->input_stride,
               args->mask ? args->mask + r * args->mask_stride : nullptr,
               args->output + r * args->output_stride);
  }
}
