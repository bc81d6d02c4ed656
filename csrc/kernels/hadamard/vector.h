// Walsh-Hadamard transform over the names of simd/README.md; included by the file of each instruction set,
// which states before it:
//   kMostBits                log2 of how many vectors a pass holds in registers
//   F32 transform_lanes(F32) the transform of the lanes of one vector

namespace {

constexpr size_t kBlock = 4096;  // elements: 16 KB, which stay in the first cache from pass to pass

// Butterflies between vectors; kCount is a power of two.
template <int kCount>
inline void transform_vectors(F32 (&v)[kCount]) {
#pragma GCC unroll 8
  for (int span = 1; span < kCount; span *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount / 2; ++i) {
      const int low = i / span * 2 * span + i % span;
      const F32 a = v[low], b = v[low + span];
      v[low] = add(a, b);
      v[low + span] = sub(a, b);
    }
  }
}

// Scales, and transforms whole groups of kCount neighbouring vectors.
template <int kCount>
void transform_neighbours(const float* input, float* output, size_t count, F32 scale) {
  for (size_t i = 0; i < count; i += kCount * kLanes) {
    F32 v[kCount];
#pragma GCC unroll 16
    for (int k = 0; k < kCount; ++k) v[k] = transform_lanes(mul(load(input + i + k * kLanes), scale));
    transform_vectors(v);
#pragma GCC unroll 16
    for (int k = 0; k < kCount; ++k) store(output + i + k * kLanes, v[k]);
  }
}

// Transforms groups of kCount vectors that are `span` elements apart; x has `count` elements.
template <int kCount>
void transform_apart(float* x, size_t count, size_t span) {
  for (size_t group = 0; group < count; group += kCount * span) {
    for (size_t i = group; i < group + span; i += kLanes) {
      F32 v[kCount];
#pragma GCC unroll 16
      for (int k = 0; k < kCount; ++k) v[k] = load(x + i + static_cast<size_t>(k) * span);
      transform_vectors(v);
#pragma GCC unroll 16
      for (int k = 0; k < kCount; ++k) store(x + i + static_cast<size_t>(k) * span, v[k]);
    }
  }
}

// Bits of the next pass where `left` are to be done: passes as even as can be.
inline int bits_of_pass(int left) {
  const int passes = (left + kMostBits - 1) / kMostBits;
  return passes ? (left + passes - 1) / passes : 0;
}

// What is left to do for x [total], whose stretches of `span` are transformed and those of `count` shall be.
void transform_rest(float* x, size_t total, size_t span, size_t count) {
  while (span < count) {
    const int bits = bits_of_pass(__builtin_ctzll(count / span));
    if (bits == 1) transform_apart<2>(x, total, span);
    if (bits == 2) transform_apart<4>(x, total, span);
    if (bits == 3) transform_apart<8>(x, total, span);
    if (bits == 4) transform_apart<1 << kMostBits>(x, total, span);
    span <<= bits;
  }
}

// Stretches of `count`, a power of two of at least kLanes, of which `total` is a multiple.
void transform_block(const float* input, float* output, size_t total, size_t count, F32 scale) {
  const int bits = bits_of_pass(__builtin_ctzll(count / kLanes));
  if (bits == 0) transform_neighbours<1>(input, output, total, scale);
  if (bits == 1) transform_neighbours<2>(input, output, total, scale);
  if (bits == 2) transform_neighbours<4>(input, output, total, scale);
  if (bits == 3) transform_neighbours<8>(input, output, total, scale);
  if (bits == 4) transform_neighbours<1 << kMostBits>(input, output, total, scale);
  transform_rest(output, total, kLanes << bits, count);
}

// Stretches with fewer elements than a vector has lanes.
void transform_few(const float* input, float* output, size_t total, size_t count, float scale) {
  for (size_t i = 0; i < total; ++i) output[i] = scale * input[i];
  for (size_t span = 1; span < count; span *= 2) {
    for (size_t i = 0; i < total; ++i) {
      if (i & span) continue;
      const float a = output[i], b = output[i + span];
      output[i] = a + b;
      output[i + span] = a - b;
    }
  }
}

// Each stretch of `count` elements, a power of two, of `total`.
void transform(const float* input, float* output, size_t total, size_t count, float scale) {
  if (count < kLanes) return transform_few(input, output, total, count, scale);
  for (size_t i = 0; i < total; i += kBlock) {
    const size_t part = total - i < kBlock ? total - i : kBlock;
    transform_block(input + i, output + i, part, count < kBlock ? count : kBlock, splat(scale));
  }
  transform_rest(output, total, kBlock, count);
}

// All 16 sums of four vectors with signs; bit i of the index is set where vector i is taken off.
inline void sum_with_signs(F32 a, F32 b, F32 c, F32 d, F32* sums) {
  const F32 left[2] = {add(a, b), sub(a, b)}, right[2] = {add(c, d), sub(c, d)};
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const F32 sum = add(left[i], right[j]), difference = sub(left[i], right[j]);
      const int b_off = i * 2, d_off = j * 8, a_off = 3 - b_off, c_off = 12 - d_off;
      sums[b_off + d_off] = sum;
      sums[a_off + c_off] = sub(zeros(), sum);
      sums[b_off + c_off] = difference;
      sums[a_off + d_off] = sub(zeros(), difference);
    }
  }
}

// Each column of x [kOrder][count] by Paley's matrix: four rows at a time, whose sums many rows of the result
// share.
template <int kOrder>
void mix(float* x, size_t count, bool transposed) {
  constexpr int kQuads = kOrder / 4;
  const Paley<kOrder>& matrix = kPaley<kOrder>[transposed];
  for_vectors(count, [&](size_t i, size_t lanes) {
    F32 sums[kQuads][16];
    const float* from = x + i;
    for (int quad = 0; quad < kQuads; ++quad, from += 4 * count) {
      sum_with_signs(load_some(from, lanes), load_some(from + count, lanes),
                     load_some(from + 2 * count, lanes), load_some(from + 3 * count, lanes), sums[quad]);
    }
    for (size_t row = 0; row < kOrder; ++row) {
      F32 total = sums[0][matrix.signs[row][0]];
#pragma GCC unroll 16
      for (int quad = 1; quad < kQuads; ++quad) total = add(total, sums[quad][matrix.signs[row][quad]]);
      store_some(x + row * count + i, total, lanes);
    }
  });
}

void hadamard_rows(const ferrule_hadamard_args& args, size_t begin, size_t end) {
  if (args.width == 0) return;
  const size_t width = args.width, order = order_of(width), count = width / order;
  const float* input = args.input + begin * args.input_stride;
  float* output = args.output + begin * args.output_stride;
  if (order == 1 && args.input_stride == width && args.output_stride == width) {
    return transform(input, output, (end - begin) * width, width, args.scale);
  }
  const bool transposed = args.transposed != 0;
  for (size_t r = begin; r < end; ++r, input += args.input_stride, output += args.output_stride) {
    transform(input, output, width, count, args.scale);
    if (order == 12) mix<12>(output, count, transposed);
    if (order == 20) mix<20>(output, count, transposed);
    if (order == 28) mix<28>(output, count, transposed);
    if (order == 36) mix<36>(output, count, transposed);
    if (order == 60) mix<60>(output, count, transposed);
  }
}

}  // namespace
