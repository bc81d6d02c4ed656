#ifndef FERRULE_WINDOW_H
#define FERRULE_WINDOW_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A window that slides over images. Images lie in memory as [batch][height][width][channels] (channels last),
 * so that a vector holds neighbouring channels of one pixel: every load is contiguous whatever the stride,
 * padding and dilation, and the row of a matrix product over channels is a pixel as it lies. Signals of one
 * dimension have height 1.
 *
 * The window of output (y, x) has its tap (i, j) at input (y * stride_height - pad_top + i * dilation_height,
 * x * stride_width - pad_left + j * dilation_width). Taps outside the image are padding: the value zero. How
 * far windows reach beyond the bottom and the right follows from the output size, which may be any. */
typedef struct ferrule_window {
  size_t batch;
  size_t in_height, in_width;
  size_t out_height, out_width;
  size_t kernel_height, kernel_width;
  size_t stride_height, stride_width;
  size_t dilation_height, dilation_width;
  size_t pad_top, pad_left;
} ferrule_window;

/* The output size of one dimension, for padding on both sides together; 0 where no window fits. */
size_t ferrule_window_outputs(size_t input, size_t kernel, size_t stride, size_t dilation, size_t padding);

#ifdef __cplusplus
}
#endif

#endif
