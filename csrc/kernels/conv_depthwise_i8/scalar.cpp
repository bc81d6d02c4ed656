#include <math.h>

#include "kernels/conv_depthwise_i8/packed.h"
#include "kernels/declarations.h"
#include "kernels/scalar_activation.h"

namespace {

struct Reader {
  const ferrule_conv_depthwise_i8_args& args;
  DepthwiseLayout layout;
  const char* packed;

  int32_t input(size_t n, size_t row, size_t column, size_t c) const {
    const ferrule_window& w = args.window;
    if (row >= w.in_height || column >= w.in_width) return 0;
    const size_t at = ((n * w.in_height + row) * w.in_width + column) * args.input_stride + c;
    const int32_t code = args.input_is_signed ? static_cast<const int8_t*>(args.input)[at]
                                              : static_cast<const uint8_t*>(args.input)[at];
    return code - args.input_zero;
  }
  int32_t weight(size_t i, size_t j, size_t c) const {
    const size_t along = layout.shifts == 2 ? i : j, across = layout.shifts == 2 ? j : 0;
    return static_cast<int8_t>(packed[layout.quad(0, along / 4, across) + c * 4 + along % 4]);
  }
  double of_channel(size_t section, size_t c) const {
    return reinterpret_cast<const float*>(packed + section)[c];
  }

  int32_t sum_taps(size_t n, size_t y, size_t x, size_t c) const {
    const ferrule_window& w = args.window;
    int32_t sum = 0;
    for (size_t i = 0; i < w.kernel_height; ++i) {
      for (size_t j = 0; j < w.kernel_width; ++j) {
        // Above and left of the image these wrap around to huge numbers.
        const size_t row = y * w.stride_height + i * w.dilation_height - w.pad_top;
        const size_t column = x * w.stride_width + j * w.dilation_width - w.pad_left;
        sum += input(n, row, column, c) * weight(i, j, c);
      }
    }
    return sum;
  }
};

void write_output(const ferrule_conv_depthwise_i8_args& args, size_t pixel, size_t c, double y) {
  const ferrule_epilogue& epilogue = args.epilogue;
  y = activate(epilogue.activation, y);
  if (epilogue.residual) y += static_cast<double>(epilogue.residual[pixel * epilogue.residual_stride + c]);
  const size_t at = pixel * args.output_stride + c;
  if (epilogue.output_scale == 0) {
    static_cast<float*>(args.output)[at] = static_cast<float>(y);
    return;
  }
  const double code = nearbyint(y / epilogue.output_scale) + epilogue.output_zero;
  static_cast<int8_t*>(args.output)[at] = static_cast<int8_t>(code > 127 ? 127 : code >= -128 ? code : -128);
}

}  // namespace

// The definition that every other conv_depthwise_i8 kernel is held to.
void ferrule_conv_depthwise_i8_scalar(const ferrule_conv_depthwise_i8_args* args, size_t begin, size_t end,
                                      void*) {
  const ferrule_window& window = args->window;
  const Reader reader = {*args, lay_out_depthwise(window.kernel_height, window.kernel_width, args->channels),
                         static_cast<const char*>(args->packed)};
  for (size_t r = begin; r < end; ++r) {
    for (size_t x = 0; x < window.out_width; ++x) {
      for (size_t c = 0; c < args->channels; ++c) {
        const int32_t sum = reader.sum_taps(r / window.out_height, r % window.out_height, x, c);
        const double scale =
            static_cast<double>(args->input_scale) * reader.of_channel(reader.layout.scales, c);
        write_output(*args, r * window.out_width + x, c,
                     sum * scale + reader.of_channel(reader.layout.bias, c));
      }
    }
  }
}
