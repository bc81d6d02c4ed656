// The mean of tokens over the names of simd/README.md; included by the file of each instruction set.

namespace {

constexpr size_t kColumns = 8;  // vectors of sums that stay in registers while the tokens pass

struct Text {
  const float* input;
  const uint8_t* mask;
  size_t tokens, stride;
  F32 factor;  // 1 / tokens that count
};

// Columns [0, kColumns * kLanes) of the text; returns the sum of the squares.
F32 average_columns(const Text& text, const float* input, float* output) {
  F32 sums[kColumns];
#pragma GCC unroll 8
  for (size_t k = 0; k < kColumns; ++k) sums[k] = zeros();
  for (size_t t = 0; t < text.tokens; ++t) {
    if (text.mask && !text.mask[t]) continue;
    const float* x = input + t * text.stride;
#pragma GCC unroll 8
    for (size_t k = 0; k < kColumns; ++k) sums[k] = add(sums[k], load(x + k * kLanes));
  }
  F32 squares = zeros();
#pragma GCC unroll 8
  for (size_t k = 0; k < kColumns; ++k) {
    const F32 mean = mul(sums[k], text.factor);
    store(output + k * kLanes, mean);
    squares = fma(mean, mean, squares);
  }
  return squares;
}

float average_text(const Text& text, float* output, size_t width) {
  F32 squares = zeros();
  size_t i = 0;
  for (; i + kColumns * kLanes <= width; i += kColumns * kLanes)
    squares = add(squares, average_columns(text, text.input + i, output + i));
  for_vectors(width - i, [&](size_t j, size_t count) {
    F32 sum = zeros();
    for (size_t t = 0; t < text.tokens; ++t) {
      if (!text.mask || text.mask[t]) sum = add(sum, load_some(text.input + t * text.stride + i + j, count));
    }
    const F32 mean = mul(sum, text.factor);
    store_some(output + i + j, mean, count);
    squares = fma(mean, mean, squares);
  });
  return sum_lanes(squares);
}

size_t count_tokens(const uint8_t* mask, size_t tokens) {
  if (!mask) return tokens;
  size_t count = 0;
  for (size_t t = 0; t < tokens; ++t) count += mask[t] != 0;
  return count;
}

void mean_tokens_texts(const ferrule_mean_tokens_args& args, size_t begin, size_t end) {
  for (size_t b = begin; b < end; ++b) {
    const uint8_t* mask = args.mask ? args.mask + b * args.mask_stride : nullptr;
    const size_t count = count_tokens(mask, args.tokens);
    const Text text = {args.input + b * args.input_batch_stride, mask, args.tokens, args.input_token_stride,
                       splat(count ? 1 / static_cast<float>(count) : 0)};
    float* output = args.output + b * args.output_stride;
    const float length = sqrtf(average_text(text, output, args.width));
    if (!args.normalize) continue;
    const F32 factor = splat(1 / (length < 1e-12f ? 1e-12f : length));
    for_vectors(args.width, [&](size_t i, size_t n) {
      store_some(output + i, mul(load_some(output + i, n), factor), n);
    });
  }
}

}  // namespace
