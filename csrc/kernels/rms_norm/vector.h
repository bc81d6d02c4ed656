// RMS norm over the names of simd/README.md; included by the file of each instruction set.

namespace {

// Sums are kept in four vectors, so that an addition need not wait for the one before it.
constexpr size_t kSums = 4;

float add_up(const F32* sums) { return sum_lanes(add(add(sums[0], sums[1]), add(sums[2], sums[3]))); }

float sum_squares(const float* x, size_t width) {
  F32 sums[kSums] = {zeros(), zeros(), zeros(), zeros()};
  size_t i = 0;
  for (; i + kSums * kLanes <= width; i += kSums * kLanes) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kSums; ++s) {
      const F32 value = load(x + i + s * kLanes);
      sums[s] = fma(value, value, sums[s]);
    }
  }
  for_vectors(width - i, [&](size_t j, size_t count) {
    const F32 value = load_some(x + i + j, count);
    sums[0] = fma(value, value, sums[0]);
  });
  return add_up(sums);
}

// Writes x to `kept` and returns the sum of its squares.
float add_residual(const float* input, const float* residual, float* kept, size_t width) {
  F32 sums[kSums] = {zeros(), zeros(), zeros(), zeros()};
  size_t i = 0;
  for (; i + kSums * kLanes <= width; i += kSums * kLanes) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kSums; ++s) {
      const size_t at = i + s * kLanes;
      const F32 x = residual ? add(load(input + at), load(residual + at)) : load(input + at);
      store(kept + at, x);
      sums[s] = fma(x, x, sums[s]);
    }
  }
  for_vectors(width - i, [&](size_t j, size_t count) {
    F32 x = load_some(input + i + j, count);
    if (residual) x = add(x, load_some(residual + i + j, count));
    store_some(kept + i + j, x, count);
    sums[0] = fma(x, x, sums[0]);
  });
  return add_up(sums);
}

void scale_row(const float* x, const float* weight, float* output, float inverse, size_t width) {
  const F32 factor = splat(inverse);
  for_vectors(width, [&](size_t i, size_t count) {
    F32 y = mul(load_some(x + i, count), factor);
    if (weight) y = mul(y, load_some(weight + i, count));
    store_some(output + i, y, count);
  });
}

void rms_norm_rows(const ferrule_rms_norm_args& args, size_t begin, size_t end) {
  for (size_t r = begin; r < end; ++r) {
    const float* x = args.input + r * args.input_stride;
    float* output = args.output + r * args.output_stride;
    float squares;
    if (args.residual || args.sum) {
      const float* residual = args.residual ? args.residual + r * args.residual_stride : nullptr;
      float* kept =
          args.sum ? args.sum + r * args.sum_stride : output;  // `output` holds x until it is normalized
      squares = add_residual(x, residual, kept, args.width);
      x = kept;
    } else {
      squares = sum_squares(x, args.width);
    }
    const float inverse = 1 / sqrtf(squares / static_cast<float>(args.width) + args.epsilon);
    scale_row(x, args.weight, output, inverse, args.width);
  }
}

}  // namespace
