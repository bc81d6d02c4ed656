// Rotary embedding over the names of simd/README.md; included by the file of each instruction set.

namespace {

void turn_halves(const float* cosines, const float* sines, const float* input, float* output, size_t half) {
  for_vectors(half, [&](size_t i, size_t count) {
    const F32 a = load_some(input + i, count), b = load_some(input + half + i, count);
    const F32 cosine = load_some(cosines + i, count), sine = load_some(sines + i, count);
    store_some(output + i, fnma(b, sine, mul(a, cosine)), count);
    store_some(output + half + i, fma(a, sine, mul(b, cosine)), count);
  });
}

void turn_neighbours(const float* cosines, const float* sines, const float* input, float* output,
                     size_t half) {
  size_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const F32Pair x = load_pairs(input + 2 * i);
    const F32 cosine = load(cosines + i), sine = load(sines + i);
    store_pairs(output + 2 * i,
                {fnma(x.second, sine, mul(x.first, cosine)), fma(x.first, sine, mul(x.second, cosine))});
  }
  for (; i < half; ++i) {
    const float a = input[2 * i], b = input[2 * i + 1];
    output[2 * i] = a * cosines[i] - b * sines[i];
    output[2 * i + 1] = b * cosines[i] + a * sines[i];
  }
}

void turn_tokens(const ferrule_rope_args& args, size_t begin, size_t end) {
  const size_t half = args.rotary / 2;
  const auto turn = args.pairs == FERRULE_ROPE_NEIGHBOURS ? turn_neighbours : turn_halves;
  for (size_t t = begin; t < end; ++t) {
    const size_t row = args.positions ? static_cast<size_t>(args.positions[t]) : args.first_position + t;
    for (size_t head = 0; head < args.heads; ++head) {
      const float* input = args.input + t * args.input_token_stride + head * args.input_head_stride;
      float* output = args.output + t * args.output_token_stride + head * args.output_head_stride;
      turn(args.cosines + row * half, args.sines + row * half, input, output, half);
      if (output == input) continue;
      for_vectors(args.width - args.rotary, [&](size_t i, size_t count) {
        store_some(output + args.rotary + i, load_some(input + args.rotary + i, count), count);
      });
    }
  }
}

}  // namespace
