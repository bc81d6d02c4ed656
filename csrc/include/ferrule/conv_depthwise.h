#ifndef FERRULE_CONV_DEPTHWISE_H
#define FERRULE_CONV_DEPTHWISE_H

#include <stddef.h>

#include "ferrule/gemm.h"
#include "ferrule/status.h"
#include "ferrule/threads.h"
#include "ferrule/window.h"

#ifdef __cplusplus
extern "C" {
#endif

/* output[pixel][c] = activation(bias[c] + sum over taps of input[tap][c] * weight[tap][c]) +
 * residual[pixel][c]. Every channel has a kernel of its own; where channels have several, convolve in groups
 * (ferrule/conv.h). Unit of work: an output row, batch * out_height of them. Any alignment; `residual` may be
 * `output`. */
typedef struct ferrule_conv_depthwise_args {
  const float* input;    /* [batch][in_height][in_width][input_stride] */
  const float* weight;   /* [kernel_height][kernel_width][channels] */
  const float* bias;     /* [channels], or NULL for zeros */
  const float* residual; /* [batch][out_height][out_width][residual_stride], or NULL for none */
  float* output;         /* [batch][out_height][out_width][output_stride] */
  size_t input_stride, residual_stride, output_stride; /* elements from pixel to pixel */
  size_t channels;
  ferrule_window window;
  ferrule_activation activation;
} ferrule_conv_depthwise_args;

typedef void ferrule_conv_depthwise_fn(const ferrule_conv_depthwise_args* args, size_t begin, size_t end,
                                       void* scratch);

ferrule_status ferrule_conv_depthwise(const ferrule_conv_depthwise_args* args, const char* isa,
                                      ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
