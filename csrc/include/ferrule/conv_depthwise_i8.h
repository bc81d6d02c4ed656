#ifndef FERRULE_CONV_DEPTHWISE_I8_H
#define FERRULE_CONV_DEPTHWISE_I8_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/gemm.h"
#include "ferrule/status.h"
#include "ferrule/threads.h"
#include "ferrule/window.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Depthwise convolution of 8-bit codes: with x = input_scale * (code - input_zero) and
 * w = scales[c] * code, y[pixel][c] = bias[c] + sum over taps of x * w, then the epilogue. Sums are exact, in
 * int32. Padding is x = 0, that is, the code input_zero. */
typedef struct ferrule_conv_depthwise_i8_weights {
  const int8_t* codes; /* [kernel_height][kernel_width][channels] */
  const float* scales; /* [channels] */
  const float* bias;   /* [channels], or NULL for zeros */
  size_t kernel_height, kernel_width;
  size_t channels;
} ferrule_conv_depthwise_i8_weights;

/* Packed weights are the same for all instruction sets: a header; then, so that one instruction multiplies
 * four taps, quads of taps that follow each other down a column of the kernel (along its row where
 * kernel_height is 1), [shifts][groups][kernel_width][channels up to 16][4], once more with all taps moved
 * down by one, which is what the next output row makes of the same four input rows; then for each channel the
 * sum of its codes, its scale and its bias. */
size_t ferrule_conv_depthwise_i8_packed_bytes(size_t kernel_height, size_t kernel_width, size_t channels);

/* `packed`: FERRULE_ALIGNMENT-aligned. */
ferrule_status ferrule_pack_conv_depthwise_i8(const ferrule_conv_depthwise_i8_weights* weights, void* packed);

/* Unit of work: an output row, batch * out_height of them. Any alignment but for `packed` and `scratch`. */
typedef struct ferrule_conv_depthwise_i8_args {
  const void* input; /* [batch][in_height][in_width][input_stride], uint8, or int8 where input_is_signed */
  int input_is_signed;
  float input_scale;
  int32_t input_zero; /* among the codes */
  const void* packed;
  void* output; /* [batch][out_height][out_width][output_stride], as the epilogue says */
  size_t input_stride, output_stride; /* elements from pixel to pixel */
  size_t channels;
  ferrule_window window;
  ferrule_epilogue epilogue; /* its rows are pixels */
} ferrule_conv_depthwise_i8_args;

typedef void ferrule_conv_depthwise_i8_fn(const ferrule_conv_depthwise_i8_args* args, size_t begin,
                                          size_t end, void* scratch);

/* Bytes of scratch memory for each thread. */
size_t ferrule_conv_depthwise_i8_scratch(const ferrule_window* window);

/* `scratch`: FERRULE_ALIGNMENT-aligned, for all threads of the pool. */
ferrule_status ferrule_conv_depthwise_i8(const ferrule_conv_depthwise_i8_args* args, const char* isa,
                                         void* scratch, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
