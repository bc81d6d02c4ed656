#include <float.h>
#include <math.h>

#include "kernels/declarations.h"

namespace {

struct Range {
  float scale;
  int zero;  // of int8 codes
};

// sdk/coded.py, quantize_rows, but that a row with a NaN or an infinity has the scale NaN.
Range choose_range(const float* x, size_t width) {
  float low = 0, high = 0;
  for (size_t i = 0; i < width; ++i) {
    if (!isfinite(x[i])) return {NAN, 0};
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  const float scale = fmaxf((high - low) / 255.0f, FLT_EPSILON);
  const float zero = -128.0f - rintf(low / scale);
  return {scale, static_cast<int>(fminf(fmaxf(zero, -128), 127))};
}

bool has_nan(const float* x, size_t width) {
  for (size_t i = 0; i < width; ++i) {
    if (x[i] != x[i]) return true;
  }
  return false;
}

}  // namespace

void ferrule_quantize_rows_scalar(const ferrule_quantize_rows_args* args, size_t begin, size_t end, void*) {
  const int offset = args->is_signed ? 0 : 128;
  for (size_t r = begin; r < end; ++r) {
    const float* x = args->input + r * args->input_stride;
    Range range = {args->range_scale, args->range_zero};
    if (args->range_scale == 0)
      range = choose_range(x, args->width);
    else if (has_nan(x, args->width))
      range.scale = NAN;
    args->scales[r] = range.scale;
    args->zeros[r] = range.zero + offset;

    auto* codes = static_cast<uint8_t*>(args->codes) + r * args->codes_stride;
    for (size_t i = 0; i < args->width; ++i) {
      const float code = rintf(x[i] / range.scale) + static_cast<float>(range.zero);
      const float bounded = code < -128 ? -128 : code > 127 ? 127 : code;
      codes[i] = static_cast<uint8_t>(bounded == bounded ? static_cast<int>(bounded) + offset : 0);
    }
    for (size_t i = args->width; i < args->padded; ++i) codes[i] = 0;
  }
}
