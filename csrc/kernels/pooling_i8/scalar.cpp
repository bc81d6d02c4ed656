#include <math.h>

#include "kernels/declarations.h"
#include "kernels/pooling/taps.h"

namespace {

int8_t pool_window(const ferrule_pooling_i8_args& args, const int8_t* image, const Taps& rows,
                   const Taps& columns) {
  const ferrule_window& w = args.window;
  const size_t inside = (rows.last - rows.first) * (columns.last - columns.first);
  int64_t sum = 0;
  int8_t highest = -128;
  for (size_t i = 0; i < rows.last - rows.first; ++i) {
    for (size_t j = 0; j < columns.last - columns.first; ++j) {
      const size_t y = rows.start + i * w.dilation_height, x = columns.start + j * w.dilation_width;
      const int8_t code = image[(y * w.in_width + x) * args.input_stride];
      sum += code;
      if (code > highest) highest = code;
    }
  }
  if (args.kind == FERRULE_POOLING_MAX) return highest;
  const size_t count = args.count_padding ? rows.padded * columns.padded : inside;
  if (count == 0) return static_cast<int8_t>(args.padding_code);
  sum += static_cast<int64_t>(count - inside) * args.padding_code;
  return static_cast<int8_t>(nearbyint(static_cast<double>(sum) / static_cast<double>(count)));
}

}  // namespace

void ferrule_pooling_i8_scalar(const ferrule_pooling_i8_args* args, size_t begin, size_t end, void*) {
  const ferrule_window& w = args->window;
  for (size_t unit = begin; unit < end; ++unit) {
    const int8_t* image = args->input + unit / w.out_height * w.in_height * w.in_width * args->input_stride;
    const Taps rows = find_taps(vertical(*args), unit % w.out_height);
    for (size_t x = 0; x < w.out_width; ++x) {
      const Taps columns = find_taps(horizontal(*args), x);
      int8_t* output = args->output + (unit * w.out_width + x) * args->output_stride;
      for (size_t c = 0; c < args->channels; ++c) output[c] = pool_window(*args, image + c, rows, columns);
    }
  }
}
