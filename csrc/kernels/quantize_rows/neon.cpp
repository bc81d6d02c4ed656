#include <float.h>
#include <math.h>

#include "kernels/declarations.h"
#include "simd/neon.h"

namespace {

// Codes of int8 and, for the same values, what makes them uint8.
struct Range {
  float scale;
  float zero;
};

constexpr size_t kChunk = 4 * kLanes;

// Four vectors; lanes from `count` on are zero.
inline void load_chunk(const float* p, size_t count, F32 (&x)[4]) {
#pragma GCC unroll 4
  for (size_t v = 0; v < 4; ++v) {
    const size_t first = v * kLanes;
    if (count >= first + kLanes)
      x[v] = load(p + first);
    else
      x[v] = load_first(p + first, count > first ? count - first : 0);
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
      low[v] = vminq_f32(value[v], low[v]);
      high[v] = vmaxq_f32(value[v], high[v]);
      spoilt[v] = fma(value[v], zeros(), spoilt[v]);  // NaN from the first value that is not finite on
    }
  }
  const float any = sum_lanes(add(add(spoilt[0], spoilt[1]), add(spoilt[2], spoilt[3])));
  if (any != any) return {NAN, 0};
  const float bottom = min_lanes(vminq_f32(vminq_f32(low[0], low[1]), vminq_f32(low[2], low[3])));
  const float top = max_lanes(vmaxq_f32(vmaxq_f32(high[0], high[1]), vmaxq_f32(high[2], high[3])));
  const float scale = fmaxf((top - bottom) / 255.0f, FLT_EPSILON);
  return {scale, fminf(fmaxf(-128.0f - rintf(bottom / scale), -128), 127)};
}

bool has_nan(const float* x, size_t width) {
  Mask found = vdupq_n_u32(0);
  for_vectors(width,
              [&](size_t i, size_t count) { found = vorrq_u32(found, is_nan(load_some(x + i, count))); });
  return vmaxvq_u32(found) != 0;
}

inline F32 bound(F32 x) { return vminq_f32(vmaxq_f32(x, splat(-512)), splat(512)); }

// 16 codes. A product with the reciprocal is off from the quotient by some units in the last place, which
// changes the result only beside a tie, and there it is divided.
inline uint8x16_t quantize_chunk(const F32 (&x)[4], F32 scale, F32 reciprocal, int16x8_t zero,
                                 uint8x16_t flips) {
  int32x4_t whole[4];
  F32 distance = zeros();
#pragma GCC unroll 4
  for (size_t v = 0; v < 4; ++v) {
    const F32 product = bound(mul(x[v], reciprocal)), rounded = round_even(product);
    distance = vmaxq_f32(distance, abs(sub(product, rounded)));
    whole[v] = vcvtq_s32_f32(rounded);
  }
  if (__builtin_expect(vmaxvq_f32(distance) > 0.4995f, 0)) {
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) whole[v] = vcvtnq_s32_f32(bound(div(x[v], scale)));
  }
  const int16x8_t low = vaddq_s16(vcombine_s16(vmovn_s32(whole[0]), vmovn_s32(whole[1])), zero);
  const int16x8_t high = vaddq_s16(vcombine_s16(vmovn_s32(whole[2]), vmovn_s32(whole[3])), zero);
  const int8x16_t codes = vcombine_s8(vqmovn_s16(low), vqmovn_s16(high));
  return veorq_u8(vreinterpretq_u8_s8(codes), flips);
}

void quantize_row(const float* x, size_t width, size_t padded, Range range, int offset, uint8_t* codes) {
  const F32 scale = splat(range.scale), reciprocal = splat(1 / range.scale);
  const int16x8_t zero = vdupq_n_s16(static_cast<int16_t>(range.zero));
  const uint8x16_t flips = vdupq_n_u8(static_cast<uint8_t>(offset));
  F32 value[4];
  size_t i = 0;
  for (; i + kChunk <= width; i += kChunk) {
    load_chunk(x + i, kChunk, value);
    vst1q_u8(codes + i, quantize_chunk(value, scale, reciprocal, zero, flips));
  }
  if (i < width) {
    uint8_t last[kChunk];
    load_chunk(x + i, width - i, value);
    vst1q_u8(last, quantize_chunk(value, scale, reciprocal, zero, flips));
    memcpy(codes + i, last, width - i);
  }
  for (size_t j = width; j < padded; ++j) codes[j] = 0;
}

}  // namespace

void ferrule_quantize_rows_neon(const ferrule_quantize_rows_args* args, size_t begin, size_t end, void*) {
  const int offset = args->is_signed ? 0 : 128;
  for (size_t r = begin; r < end; ++r) {
    const float* x = args->input + r * args->input_stride;
    Range range = {args->range_scale, static_cast<float>(args->range_zero)};
    if (args->range_scale == 0)
      range = choose_range(x, args->width);
    else if (has_nan(x, args->width))
      range.scale = NAN;
    args->scales[r] = range.scale;
    args->zeros[r] = static_cast<int32_t>(range.zero) + offset;
    auto* codes = static_cast<uint8_t*>(args->codes) + r * args->codes_stride;
    quantize_row(x, args->width, args->padded, range, offset, codes);
  }
}
