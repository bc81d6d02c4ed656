#include <math.h>

#include "kernels/declarations.h"

namespace {

float evaluate(float input, const float* a, const float* b, int form) {
  const double x = input;
  const double p = ((((a[5] * x + a[4]) * x + a[3]) * x + a[2]) * x + a[1]) * x + a[0];
  const double terms =
      fabs(b[0] * x) + fabs(b[1] * x * x) + fabs(b[2] * x * x * x) + fabs(b[3] * x * x * x * x);
  const double sum = fabs((((b[3] * x + b[2]) * x + b[1]) * x + b[0]) * x);
  return static_cast<float>(p / (1 + (form == FERRULE_RATIONAL_TERMS ? terms : sum)));
}

}  // namespace

// The definition that every other rational kernel is held to, in double.
void ferrule_rational_scalar(const ferrule_rational_args* args, size_t begin, size_t end, void*) {
  if (args->width == 0) return;
  const size_t share = args->width / args->groups;
  for (size_t r = begin; r < end; ++r) {
    const float* input = args->input + r * args->input_stride;
    float* output = args->output + r * args->output_stride;
    for (size_t i = 0; i < args->width; ++i) {
      const float* a = args->numerator + i / share * args->numerator_stride;
      const float* b = args->denominator + i / share * args->denominator_stride;
      output[i] = evaluate(input[i], a, b, args->form);
    }
  }
}
