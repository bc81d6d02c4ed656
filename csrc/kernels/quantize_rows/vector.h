// quantize_rows for x86, over the names of simd/README.md and those that the including file defines: chunks
// of four vectors, which are one vector of codes.
#include <float.h>
#include <math.h>

#include "kernels/declarations.h"

namespace {

struct Range {
  float scale;
  float zero;  // of int8 codes
};

// Four vectors; lanes from `count` on are zero.
__attribute__((always_inline)) inline void load_chunk(const float* p, size_t count, F32 (&x)[4]) {
#pragma GCC unroll 4
  for (size_t v = 0; v < 4; ++v) {
    const size_t first = v * kLanes;
    if (count >= first + kLanes)
      x[v] = load(p + first);
    else
      x[v] = count > first ? load_first(p + first, count - first) : zeros();
  }
}

// As the scalar kernel: from zero and the extremes of the row; NaN where a value is not finite.
Range choose_range(const float* x, size_t width) {
  F32 low[4] = {zeros(), zeros(), zeros(), zeros()}, high[4] = {zeros(), zeros(), zeros(), zeros()}, value[4];
  F32 spoilt[4] = {zeros(), zeros(), zeros(), zeros()};
  for (size_t i = 0; i < width; i += kChunk) {
    load_chunk(x + i, width - i, value);
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) {
      low[v] = min(value[v], low[v]);
      high[v] = max(value[v], high[v]);
      spoilt[v] = fma(value[v], zeros(), spoilt[v]);  // NaN from the first value that is not finite on
    }
  }
  const float any = sum_lanes(add(add(spoilt[0], spoilt[1]), add(spoilt[2], spoilt[3])));
  if (any != any) return {NAN, 0};
  const float bottom = min_lanes(min(min(low[0], low[1]), min(low[2], low[3])));
  const float top = max_lanes(max(max(high[0], high[1]), max(high[2], high[3])));
  const float scale = fmaxf((top - bottom) / 255.0f, FLT_EPSILON);
  return {scale, fminf(fmaxf(-128.0f - rintf(bottom / scale), -128), 127)};
}

// Values of a chosen range cannot lie far beyond it; those of a given one can, and are kept from overflowing.
// NaN stays.
template <bool Bounded>
inline F32 bound(F32 x) {
  return Bounded ? x : min(splat(512), max(splat(-512), x));
}

// A product with the reciprocal is off from the quotient by some units in the last place, which changes what
// it rounds to only beside a tie, and there it is divided. Returns whether no value of a row with a given
// range is NaN.
template <bool Bounded>
bool quantize_row(const float* x, size_t width, Range range, int8_t flip, uint8_t* codes) {
  const F32 scale = splat(range.scale), reciprocal = splat(1 / range.scale);
  const int zero = static_cast<int>(range.zero);
  F32 spoilt = zeros();
  for (size_t i = 0; i < width; i += kChunk) {
    const size_t count = width - i < kChunk ? width - i : kChunk;
    F32 value[4], distance = zeros();
    Whole whole[4];
    load_chunk(x + i, count, value);
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) {
      const F32 product = bound<Bounded>(mul(value[v], reciprocal));
      if (!Bounded) spoilt = fma(product, zeros(), spoilt);
      distance = larger_magnitude(sub(product, round_by_conversion(product, whole[v])), distance);
    }
    if (__builtin_expect(any_above(distance, 0.4995f), 0)) {
#pragma GCC unroll 4
      for (size_t v = 0; v < 4; ++v) round_by_conversion(bound<Bounded>(div(value[v], scale)), whole[v]);
    }
    store_packed(codes + i, pack_codes(whole, zero, flip), count);
  }
  return Bounded || sum_lanes(spoilt) == 0;
}

void quantize_rows(const ferrule_quantize_rows_args& args, size_t begin, size_t end) {
  const int offset = args.is_signed ? 0 : 128;
  const auto flip = static_cast<int8_t>(-offset);
  for (size_t r = begin; r < end; ++r) {
    const float* x = args.input + r * args.input_stride;
    auto* codes = static_cast<uint8_t*>(args.codes) + r * args.codes_stride;
    Range range = {args.range_scale, static_cast<float>(args.range_zero)};
    if (args.range_scale == 0) {
      range = choose_range(x, args.width);
      quantize_row<true>(x, args.width, range, flip, codes);
    } else if (!quantize_row<false>(x, args.width, range, flip, codes)) {
      range.scale = NAN;
    }
    args.scales[r] = range.scale;
    args.zeros[r] = static_cast<int32_t>(range.zero) + offset;
    for (size_t i = args.width; i < args.padded; ++i) codes[i] = 0;
  }
}

}  // namespace
