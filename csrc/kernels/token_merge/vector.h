// Token merging over the names of simd/README.md; included by the file of each instruction set.

namespace {

void token_merge(const ferrule_token_merge_args& args, size_t begin, size_t end) {
  for (size_t unit = begin; unit < end; ++unit) {
    const Part part = begin_part(args, unit);
    const float* input = args.input + part.entry * args.input_batch_stride;
    float* output = args.output + part.entry * args.output_batch_stride;
    const auto put = [&](size_t row, size_t token, float share, bool is_first) {
      const float* from = input + token * args.input_stride;
      float* to = output + row * args.output_stride;
      const F32 factor = splat(share);
      for_vectors(args.width, [&](size_t i, size_t count) {
        const F32 x = load_some(from + i, count);
        store_some(to + i, is_first ? mul(x, factor) : fma(x, factor, load_some(to + i, count)), count);
      });
    };
    const auto clear = [&](size_t row) {
      for_vectors(args.width, [&](size_t i, size_t count) {
        store_some(output + row * args.output_stride + i, zeros(), count);
      });
    };
    for_tokens(args, part, put, clear);
  }
}

}  // namespace
