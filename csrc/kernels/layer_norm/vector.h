// Layer norm over the names of simd/README.md; included by the file of each instruction set.

namespace {

// Sums are kept in four vectors, so that an addition need not wait for the one before it.
constexpr size_t kSums = 4;

float add_up(const F32* sums) { return sum_lanes(add(add(sums[0], sums[1]), add(sums[2], sums[3]))); }

// Writes x to `kept` and returns its sum; x is `input` where there is no residual.
float add_residual(const float* input, const float* residual, float* kept, size_t width) {
  F32 sums[kSums] = {zeros(), zeros(), zeros(), zeros()};
  size_t i = 0;
  for (; i + kSums * kLanes <= width; i += kSums * kLanes) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kSums; ++s) {
      F32 x = load(input + i + s * kLanes);
      if (residual) x = add(x, load(residual + i + s * kLanes));
      store(kept + i + s * kLanes, x);
      sums[s] = add(sums[s], x);
    }
  }
  for_vectors(width - i, [&](size_t j, size_t count) {
    F32 x = load_some(input + i + j, count);
    if (residual) x = add(x, load_some(residual + i + j, count));
    store_some(kept + i + j, x, count);
    sums[0] = add(sums[0], x);
  });
  return add_up(sums);
}

float sum_row(const float* x, size_t width) {
  F32 sums[kSums] = {zeros(), zeros(), zeros(), zeros()};
  size_t i = 0;
  for (; i + kSums * kLanes <= width; i += kSums * kLanes) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kSums; ++s) sums[s] = add(sums[s], load(x + i + s * kLanes));
  }
  for_vectors(width - i,
              [&](size_t j, size_t count) { sums[0] = add(sums[0], load_some(x + i + j, count)); });
  return add_up(sums);
}

float sum_squares(const float* x, float mean, size_t width) {
  F32 sums[kSums] = {zeros(), zeros(), zeros(), zeros()};
  const F32 centre = splat(mean);
  size_t i = 0;
  for (; i + kSums * kLanes <= width; i += kSums * kLanes) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kSums; ++s) {
      const F32 centred = sub(load(x + i + s * kLanes), centre);
      sums[s] = fma(centred, centred, sums[s]);
    }
  }
  for_vectors(width - i, [&](size_t j, size_t count) {
    F32 centred = sub(load_some(x + i + j, count), centre);
    if (count < kLanes) centred = keep_first(centred, count, 0);
    sums[0] = fma(centred, centred, sums[0]);
  });
  return add_up(sums);
}

void normalize_row(const ferrule_layer_norm_args& args, const float* x, float* output, float mean,
                   float inverse) {
  const F32 centre = splat(mean), factor = splat(inverse);
  if (args.weight && args.bias) {
    for_vectors(args.width, [&](size_t i, size_t count) {
      const F32 normal = mul(sub(load_some(x + i, count), centre), factor);
      store_some(output + i, fma(normal, load_some(args.weight + i, count), load_some(args.bias + i, count)),
                 count);
    });
    return;
  }
  for_vectors(args.width, [&](size_t i, size_t count) {
    F32 y = mul(sub(load_some(x + i, count), centre), factor);
    if (args.weight) y = mul(y, load_some(args.weight + i, count));
    if (args.bias) y = add(y, load_some(args.bias + i, count));
    store_some(output + i, y, count);
  });
}

void layer_norm_rows(const ferrule_layer_norm_args& args, size_t begin, size_t end) {
  const auto width = static_cast<float>(args.width);
  for (size_t r = begin; r < end; ++r) {
    const float* x = args.input + r * args.input_stride;
    float* output = args.output + r * args.output_stride;
    float total;
    if (args.residual || args.sum) {
      const float* residual = args.residual ? args.residual + r * args.residual_stride : nullptr;
      float* kept =
          args.sum ? args.sum + r * args.sum_stride : output;  // `output` holds x until it is normalized
      total = add_residual(x, residual, kept, args.width);
      x = kept;
    } else {
      total = sum_row(x, args.width);
    }
    const float mean = total / width;
    const float inverse = 1 / sqrtf(sum_squares(x, mean, args.width) / width + args.epsilon);
    normalize_row(args, x, output, mean, inverse);
  }
}

}  // namespace
