#include <math.h>

#include "kernels/declarations.h"

namespace {

// In double; the limit where x is -infinity and the formula has none.
double evaluate(int kind, double x) {
  const bool vanishes = x == -HUGE_VAL;
  switch (kind) {
    case FERRULE_ACTIVATE_RELU:
      return x < 0 ? 0 : x;
    case FERRULE_ACTIVATE_RELU6:
      return x < 0 ? 0 : x > 6 ? 6 : x;
    case FERRULE_ACTIVATE_HARD_SWISH:
      return x <= -3 ? 0 : x >= 3 ? x : x * (x + 3) / 6;
    case FERRULE_ACTIVATE_GELU:
      return vanishes ? 0 : 0.5 * x * erfc(-x * 0.70710678118654752);
    case FERRULE_ACTIVATE_GELU_TANH:
      return vanishes ? 0 : x / (1 + exp(-2 * 0.79788456080286536 * (x + 0.044715 * x * x * x)));
    case FERRULE_ACTIVATE_SILU:
      return vanishes ? 0 : x / (1 + exp(-x));
    case FERRULE_ACTIVATE_SIGMOID:
      return 1 / (1 + exp(-x));
    case FERRULE_ACTIVATE_TANH:
      return tanh(x);
    case FERRULE_ACTIVATE_EXP:
      return exp(x);
  }
  return x;
}

}  // namespace

void ferrule_activate_scalar(const ferrule_activate_args* args, size_t begin, size_t end, void*) {
  const size_t blocks = (args->width + FERRULE_ACTIVATE_BLOCK - 1) / FERRULE_ACTIVATE_BLOCK;
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t row = unit / blocks, first = unit % blocks * FERRULE_ACTIVATE_BLOCK;
    const size_t rest = args->width - first;
    const float* input = args->input + row * args->input_stride;
    const float* factor = args->factor ? args->factor + row * args->factor_stride : nullptr;
    float* output = args->output + row * args->output_stride;
    for (size_t i = first; i < first + (rest < FERRULE_ACTIVATE_BLOCK ? rest : FERRULE_ACTIVATE_BLOCK); ++i) {
      const auto y = static_cast<float>(evaluate(args->kind, static_cast<double>(input[i])));
      output[i] = factor ? y * factor[i] : y;
    }
  }
}
