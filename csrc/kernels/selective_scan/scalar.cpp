#include <math.h>

#include "kernels/declarations.h"
#include "kernels/selective_scan/block.h"

namespace {

double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

// One channel, `i` of the block; `h` [states] is memory for its state.
void scan_channel(const ferrule_selective_scan_args& args, const Block& block, size_t i, double* h) {
  const size_t channel = block.channel + i, states = args.states;
  const size_t state = (block.batch * args.channels + channel) * states;
  for (size_t n = 0; n < states; ++n) h[n] = args.initial_state ? args.initial_state[state + n] : 0;
  const auto at = [&](const ferrule_scan_strides& strides, size_t t) {
    return offset_of(strides, block) + t * strides.step + i * strides.channel;
  };
  for (size_t t = 0; t < args.length; ++t) {
    const double u = args.input[at(args.input_strides, t)];
    double d = args.delta[at(args.delta_strides, t)];
    if (args.delta_bias) d += args.delta_bias[channel];
    if (args.softplus) d = softplus(d);
    const float* b = args.b + offset_of(args.b_strides, block) + t * args.b_strides.step;
    const float* c = args.c + offset_of(args.c_strides, block) + t * args.c_strides.step;
    double y = args.skip ? args.skip[channel] * u : 0;
    for (size_t n = 0; n < states; ++n) {
      h[n] = exp(d * args.a[channel * states + n]) * h[n] + d * b[n * args.b_strides.state] * u;
      y += c[n * args.c_strides.state] * h[n];
    }
    if (args.gate) {
      const double z = args.gate[at(args.gate_strides, t)];
      y *= z / (1 + exp(-z));
    }
    args.output[at(args.output_strides, t)] = static_cast<float>(y);
  }
  if (!args.final_state) return;
  for (size_t n = 0; n < states; ++n) args.final_state[state + n] = static_cast<float>(h[n]);
}

}  // namespace

// The definition that every other selective_scan kernel is held to: in double, step by step.
void ferrule_selective_scan_scalar(const ferrule_selective_scan_args* args, size_t begin, size_t end,
                                   void* scratch) {
  for (size_t unit = begin; unit < end; ++unit) {
    const Block block = find_block(*args, unit);
    for (size_t i = 0; i < block.count; ++i) scan_channel(*args, block, i, static_cast<double*>(scratch));
  }
}
