#include <stdint.h>

#include "kernels/declarations.h"
#include "kernels/scalar_activation.h"

namespace {

double sum_taps(const ferrule_conv_depthwise_args& args, size_t n, size_t y, size_t x, size_t c) {
  const ferrule_window& w = args.window;
  double sum = args.bias ? args.bias[c] : 0;
  for (size_t i = 0; i < w.kernel_height; ++i) {
    for (size_t j = 0; j < w.kernel_width; ++j) {
      // Above and left of the image these wrap around to huge numbers.
      const size_t row = y * w.stride_height + i * w.dilation_height - w.pad_top;
      const size_t column = x * w.stride_width + j * w.dilation_width - w.pad_left;
      if (row >= w.in_height || column >= w.in_width) continue;
      const size_t pixel = (n * w.in_height + row) * w.in_width + column;
      sum += static_cast<double>(args.input[pixel * args.input_stride + c]) *
             args.weight[(i * w.kernel_width + j) * args.channels + c];
    }
  }
  return sum;
}

}  // namespace

// The definition that every other conv_depthwise kernel is held to. Sums are in double.
void ferrule_conv_depthwise_scalar(const ferrule_conv_depthwise_args* args, size_t begin, size_t end, void*) {
  const ferrule_window& window = args->window;
  for (size_t r = begin; r < end; ++r) {
    for (size_t x = 0; x < window.out_width; ++x) {
      const size_t pixel = r * window.out_width + x;
      for (size_t c = 0; c < args->channels; ++c) {
        double y =
            activate(args->activation, sum_taps(*args, r / window.out_height, r % window.out_height, x, c));
        if (args->residual) y += args->residual[pixel * args->residual_stride + c];
        args->output[pixel * args->output_stride + c] = static_cast<float>(y);
      }
    }
  }
}
