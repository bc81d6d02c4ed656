// Layer norm over the names of simd/README.md; included by the file of each instruction set.

namespace {

// Writes x to `kept` and returns its sum.
float add_residual(const float* input, const float* residual, float* kept, size_t width) {
  F32 total = zeros();
  for_vectors(width, [&](size_t i, size_t count) {
    F32 x = load_some(input + i, count);
    if (residual) x = add(x, load_some(residual + i, count));
    if (residual || kept != input) store_some(kept + i, x, count);
    total = add(total, x);
  });
  return sum_lanes(total);
}

float sum_squares(const float* x, float mean, size_t width) {
  F32 total = zeros();
  for_vectors(width, [&](size_t i, size_t count) {
    const F32 centred = sub(load_some(x + i, count), splat(mean));
    const F32 square = mul(centred, centred);
    total = add(total, count == kLanes ? square : keep_first(square, count, 0));
  });
  return sum_lanes(total);
}

void normalize_row(const ferrule_layer_norm_args& args, const float* x, float* output, float mean,
                   float inverse) {
  for_vectors(args.width, [&](size_t i, size_t count) {
    F32 y = mul(sub(load_some(x + i, count), splat(mean)), splat(inverse));
    if (args.weight) y = mul(y, load_some(args.weight + i, count));
    if (args.bias) y = add(y, load_some(args.bias + i, count));
    store_some(output + i, y, count);
  });
}

void layer_norm_rows(const ferrule_layer_norm_args& args, size_t begin, size_t end) {
  const auto width = static_cast<float>(args.width);
  for (size_t r = begin; r < end; ++r) {
    const float* input = args.input + r * args.input_stride;
    const float* residual = args.residual ? args.residual + r * args.residual_stride : nullptr;
    float* output = args.output + r * args.output_stride;
    const bool copies = residual || args.sum;
    float* kept =
        args.sum ? args.sum + r * args.sum_stride : output;  // `output` holds x until it is normalized
    const float* x = copies ? kept : input;
    const float mean =
        add_residual(input, residual, copies ? kept : const_cast<float*>(input), args.width) / width;
    const float inverse = 1 / sqrtf(sum_squares(x, mean, args.width) / width + args.epsilon);
    normalize_row(args, x, output, mean, inverse);
  }
}

}  // namespace
