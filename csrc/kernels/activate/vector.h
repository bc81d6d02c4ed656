// Element-wise functions over the names of simd/README.md; included by the file of each instruction set.

namespace {

template <F32 evaluate(F32)>
void activate_block(const float* input, const float* factor, float* output, size_t width) {
  if (factor) {
    for_vectors(width, [&](size_t i, size_t count) {
      store_some(output + i, mul(evaluate(load_some(input + i, count)), load_some(factor + i, count)), count);
    });
  } else {
    for_vectors(width, [&](size_t i, size_t count) {
      store_some(output + i, evaluate(load_some(input + i, count)), count);
    });
  }
}

using ActivateBlock = void (*)(const float* input, const float* factor, float* output, size_t width);

ActivateBlock choose_activation(int kind) {
  switch (kind) {
    case FERRULE_ACTIVATE_RELU:
      return activate_block<relu>;
    case FERRULE_ACTIVATE_GELU:
      return activate_block<gelu_exact>;
    case FERRULE_ACTIVATE_GELU_TANH:
      return activate_block<gelu_by_tanh>;
    case FERRULE_ACTIVATE_SILU:
      return activate_block<silu>;
    case FERRULE_ACTIVATE_SIGMOID:
      return activate_block<sigmoid>;
    case FERRULE_ACTIVATE_TANH:
      return activate_block<hyperbolic_tangent>;
    case FERRULE_ACTIVATE_RELU6:
      return activate_block<relu6>;
    case FERRULE_ACTIVATE_HARD_SWISH:
      return activate_block<hard_swish>;
    case FERRULE_ACTIVATE_EXP:
      break;
  }
  return activate_block<exponential>;
}

void activate_blocks(const ferrule_activate_args& args, size_t begin, size_t end) {
  const ActivateBlock activate = choose_activation(args.kind);
  const size_t blocks = (args.width + FERRULE_ACTIVATE_BLOCK - 1) / FERRULE_ACTIVATE_BLOCK;
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t row = unit / blocks, first = unit % blocks * FERRULE_ACTIVATE_BLOCK;
    const size_t rest = args.width - first;
    activate(args.input + row * args.input_stride + first,
             args.factor ? args.factor + row * args.factor_stride + first : nullptr,
             args.output + row * args.output_stride + first,
             rest < FERRULE_ACTIVATE_BLOCK ? rest : FERRULE_ACTIVATE_BLOCK);
  }
}

}  // namespace
