#include <math.h>

#include "kernels/declarations.h"
#include "kernels/pooling/taps.h"

namespace {

// Pools the values of one channel, `pixel_stride` apart along a row and `row_stride` from row to row. In
// double.
float pool_window(const ferrule_pooling_args& args, const float* image, size_t pixel_stride,
                  size_t row_stride, const Taps& rows, const Taps& columns) {
  const ferrule_window& w = args.window;
  const bool averages = args.kind == FERRULE_POOLING_AVERAGE;
  double result = averages ? 0 : -HUGE_VAL;
  for (size_t i = 0; i < rows.last - rows.first; ++i) {
    for (size_t j = 0; j < columns.last - columns.first; ++j) {
      const size_t y = rows.start + i * w.dilation_height, x = columns.start + j * w.dilation_width;
      const auto value = static_cast<double>(image[y * row_stride + x * pixel_stride]);
      if (averages)
        result += value;
      else if (value > result || isnan(value))
        result = value;
    }
  }
  if (!averages) return static_cast<float>(result);
  const size_t inside = (rows.last - rows.first) * (columns.last - columns.first);
  const size_t count = args.count_padding ? rows.padded * columns.padded : inside;
  return count ? static_cast<float>(result / static_cast<double>(count)) : 0;
}

}  // namespace

void ferrule_pooling_scalar(const ferrule_pooling_args* args, size_t begin, size_t end, void*) {
  const ferrule_window& w = args->window;
  const size_t plane = w.in_height * w.in_width;
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t outer = unit / w.out_height,
                 y = unit % w.out_height;  // outer: an image, or one channel of it
    const Taps rows = find_taps(vertical(*args), y);
    for (size_t x = 0; x < w.out_width; ++x) {
      const Taps columns = find_taps(horizontal(*args), x);
      const size_t place = (outer * w.out_height + y) * w.out_width + x;
      if (args->layout == FERRULE_CHANNELS_FIRST) {
        args->output[place] = pool_window(*args, args->input + outer * plane, 1, w.in_width, rows, columns);
        continue;
      }
      for (size_t c = 0; c < args->channels; ++c) {
        const float* image = args->input + outer * plane * args->input_stride + c;
        args->output[place * args->output_stride + c] =
            pool_window(*args, image, args->input_stride, w.in_width * args->input_stride, rows, columns);
      }
    }
  }
}
