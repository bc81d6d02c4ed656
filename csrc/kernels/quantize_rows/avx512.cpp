#include <float.h>
#include <math.h>

#include "kernels/declarations.h"
#include "simd/avx512.h"

namespace {

// Codes of int8 and, for the same values, what makes them uint8.
struct Range {
  float scale;
  float zero;
};

// As the scalar kernel: from zero and the extremes of the row; NaN where a value is not finite.
Range choose_range(const float* x, size_t width) {
  F32 low = zeros(), high = zeros(), spoilt = zeros();
  for_vectors(width, [&](size_t i, size_t count) {
    const F32 value = load_some(x + i, count);
    low = min(value, low);
    high = max(value, high);
    spoilt = fma(value, zeros(), spoilt);  // NaN from the first value that is not finite on
  });
  if (_mm512_cmp_ps_mask(spoilt, spoilt, _CMP_UNORD_Q)) return {NAN, 0};
  const float bottom = min_lanes(low);
  const float scale = fmaxf((max_lanes(high) - bottom) / 255.0f, FLT_EPSILON);
  return {scale, fminf(fmaxf(-128.0f - rintf(bottom / scale), -128), 127)};
}

bool has_nan(const float* x, size_t width) {
  Mask found = 0;
  for_vectors(width, [&](size_t i, size_t count) { found |= is_nan(load_some(x + i, count)); });
  return found != 0;
}

// round(x / scale), exactly: a product with the reciprocal is off by some units in the last place, which changes the
// result only beside a tie, and there it is divided.
inline F32 divide_and_round(F32 x, F32 scale, F32 reciprocal) {
  const F32 bounded = min(max(mul(x, reciprocal), splat(-512)), splat(512));
  const F32 whole = round_even(bounded);
  const F32 distance = abs(sub(bounded, whole));
  if (__builtin_expect(_mm512_cmp_ps_mask(distance, splat(0.4995f), _CMP_GT_OQ) != 0, 0)) {
    return round_even(min(max(div(x, scale), splat(-512)), splat(512)));
  }
  return whole;
}

void quantize_row(const float* x, size_t width, size_t padded, Range range, int8_t flip, uint8_t* codes) {
  const F32 scale = splat(range.scale), reciprocal = splat(1 / range.scale), zero = splat(range.zero);
  const __m128i flips = _mm_set1_epi8(flip);
  for_vectors(width, [&](size_t i, size_t count) {
    const F32 code = add(divide_and_round(load_some(x + i, count), scale, reciprocal), zero);
    const __m128i bytes = _mm_xor_si128(_mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(code)), flips);
    if (count == kLanes) _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), bytes);
    else _mm_mask_storeu_epi8(codes + i, first_lanes(count), bytes);
  });
  for (size_t i = width; i < padded; ++i) codes[i] = 0;
}

}  // namespace

void ferrule_quantize_rows_avx512(const ferrule_quantize_rows_args* args, size_t begin, size_t end, void*) {
  const int offset = args->is_signed ? 0 : 128;
  for (size_t r = begin; r < end; ++r) {
    const float* x = args->input + r * args->input_stride;
    Range range = {args->range_scale, static_cast<float>(args->range_zero)};
    if (args->range_scale == 0) range = choose_range(x, args->width);
    else if (has_nan(x, args->width)) range.scale = NAN;
    args->scales[r] = range.scale;
    args->zeros[r] = static_cast<int32_t>(range.zero) + offset;
    auto* codes = static_cast<uint8_t*>(args->codes) + r * args->codes_stride;
    quantize_row(x, args->width, args->padded, range, static_cast<int8_t>(-offset), codes);
  }
}
