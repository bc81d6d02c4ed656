#include "ops/window.h"

#include <stdint.h>

namespace {

// Positions stay far below half the range of size_t, so that those in the padding, which wrap around, stay
// outside.
constexpr size_t kFarthest = SIZE_MAX / 8;

ferrule_status check_dimension(size_t input, size_t output, size_t kernel, size_t stride, size_t dilation,
                               size_t pad) {
  if (kernel == 0 || stride == 0 || dilation == 0) return FERRULE_BAD_SHAPE;
  size_t reach = 0, start = 0;
  if (__builtin_mul_overflow(kernel, dilation, &reach) || __builtin_mul_overflow(output, stride, &start)) {
    return FERRULE_TOO_LARGE;
  }
  const size_t sizes[] = {input, reach, start, pad};
  for (const size_t size : sizes) {
    if (size > kFarthest) return FERRULE_TOO_LARGE;
  }
  return FERRULE_OK;
}

}  // namespace

namespace ferrule::ops {

ferrule_status check_window(const ferrule_window& window) {
  const ferrule_status status = check_dimension(window.in_height, window.out_height, window.kernel_height,
                                                window.stride_height, window.dilation_height, window.pad_top);
  return status ? status
                : check_dimension(window.in_width, window.out_width, window.kernel_width, window.stride_width,
                                  window.dilation_width, window.pad_left);
}

ferrule_status check_images(size_t batch, size_t height, size_t width, size_t channels, size_t stride,
                            size_t element_bytes) {
  if (stride < channels) return FERRULE_BAD_LAYOUT;
  size_t elements = 1;
  const size_t sizes[] = {batch, height, width, stride, element_bytes};
  for (const size_t size : sizes) {
    if (__builtin_mul_overflow(elements, size, &elements)) return FERRULE_TOO_LARGE;
  }
  return elements <= PTRDIFF_MAX ? FERRULE_OK : FERRULE_TOO_LARGE;
}

ferrule_status check_padding(size_t bottom, size_t right) {
  return bottom > kFarthest || right > kFarthest ? FERRULE_TOO_LARGE : FERRULE_OK;
}

size_t share_of_task(size_t elements, const ferrule_window& window, size_t channels) {
  size_t row = channels;
  const size_t sizes[] = {window.out_width, window.kernel_height, window.kernel_width};
  for (const size_t size : sizes) {
    if (__builtin_mul_overflow(row, size, &row)) return 1;
  }
  return elements / (row ? row : 1) + 1;
}

}  // namespace ferrule::ops

size_t ferrule_window_outputs(size_t input, size_t kernel, size_t stride, size_t dilation, size_t padding) {
  size_t reach = 0, padded = 0;
  if (kernel == 0 || stride == 0 || dilation == 0) return 0;
  if (__builtin_mul_overflow(kernel - 1, dilation, &reach) || __builtin_add_overflow(input, padding, &padded))
    return 0;
  return padded > reach ? (padded - reach - 1) / stride + 1 : 0;
}
