// Softmax over the names of simd/README.md; included by the file of each instruction set.

namespace {

// Four vectors are in flight at a time, so that none waits for the one before it.
constexpr size_t kChains = 4;

// y of softmax.h; `kMasked` and `kScaled` are known while compiling, since most calls need neither.
template <bool kMasked, bool kScaled>
struct Row {
  const float* input;
  const float* mask;
  F32 scale;

  F32 read(size_t i, size_t count) const {
    const F32 x = load_some(input + i, count);
    if (kMasked) return fma(x, scale, load_some(mask + i, count));
    return kScaled ? mul(x, scale) : x;
  }
};

// The largest value, taking NaN for none.
template <typename Row>
float find_highest(const Row& row, size_t width) {
  const F32 lowest = splat(-HUGE_VALF);
  F32 highest[kChains] = {lowest, lowest, lowest, lowest};
  size_t i = 0;
  for (; i + kChains * kLanes <= width; i += kChains * kLanes) {
#pragma GCC unroll 4
    for (size_t c = 0; c < kChains; ++c) highest[c] = max(row.read(i + c * kLanes, kLanes), highest[c]);
  }
  for (; i < width; i += kLanes) {
    const size_t count = width - i < kLanes ? width - i : kLanes;
    highest[0] = max(keep_first(row.read(i, count), count, -HUGE_VALF), highest[0]);
  }
  return max_lanes(max(max(highest[0], highest[1]), max(highest[2], highest[3])));
}

// The sum of e^(y - shift), whose terms go to `output` where kKept.
template <bool kKept, typename Row>
float sum_exponentials(const Row& row, float* output, float shift, size_t width) {
  const F32 shifts = splat(shift);
  F32 sums[kChains] = {zeros(), zeros(), zeros(), zeros()};
  size_t i = 0;
  for (; i + kChains * kLanes <= width; i += kChains * kLanes) {
#pragma GCC unroll 4
    for (size_t c = 0; c < kChains; ++c) {
      const F32 e = exponential_below_one(sub(row.read(i + c * kLanes, kLanes), shifts));
      if (kKept) store(output + i + c * kLanes, e);
      sums[c] = add(sums[c], e);
    }
  }
  for (; i < width; i += kLanes) {
    const size_t count = width - i < kLanes ? width - i : kLanes;
    const F32 e = keep_first(exponential_below_one(sub(row.read(i, count), shifts)), count, 0);
    if (kKept) store_some(output + i, e, count);
    sums[0] = add(sums[0], e);
  }
  return sum_lanes(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

template <typename Row>
void soften_row(const Row& row, float* output, size_t width, bool logarithm) {
  const float highest = find_highest(row, width);
  const float shift = highest == -HUGE_VALF ? 0 : highest;
  if (logarithm) {
    const float sum = sum_exponentials<false>(row, output, shift, width);
    const F32 log_sum = splat(sum == 0 ? 0 : logf(sum)), shifts = splat(shift);
    for_vectors(width, [&](size_t i, size_t count) {
      store_some(output + i, sub(sub(row.read(i, count), shifts), log_sum), count);
    });
  } else {
    const float sum = sum_exponentials<true>(row, output, shift, width);
    const F32 inverse = splat(sum == 0 ? 0 : 1 / sum);
    for_vectors(width, [&](size_t i, size_t count) {
      store_some(output + i, mul(load_some(output + i, count), inverse), count);
    });
  }
}

template <bool kMasked, bool kScaled>
void soften_rows(const ferrule_softmax_args& args, size_t begin, size_t end) {
  for (size_t r = begin; r < end; ++r) {
    const Row<kMasked, kScaled> row = {args.input + r * args.input_stride,
                                       kMasked ? args.mask + r * args.mask_stride : nullptr,
                                       splat(args.scale)};
    soften_row(row, args.output + r * args.output_stride, args.width, args.logarithm != 0);
  }
}

void softmax_rows(const ferrule_softmax_args& args, size_t begin, size_t end) {
  if (args.mask) return soften_rows<true, true>(args, begin, end);
  if (args.scale != 1) return soften_rows<false, true>(args, begin, end);
  soften_rows<false, false>(args, begin, end);
}

}  // namespace
