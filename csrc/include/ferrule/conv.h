#ifndef FERRULE_CONV_H
#define FERRULE_CONV_H

#include <stddef.h>

#include "ferrule/gemm.h"
#include "ferrule/linear.h"
#include "ferrule/status.h"
#include "ferrule/threads.h"
#include "ferrule/window.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Convolution with any window and any number of groups, with weights of any codec. Each group is a linear
 * layer over what its windows show: its rows are the output channels of one group, its depth is kernel_height
 * * kernel_width * the input channels of one group, in that order, which is the layout
 * [out][height][width][in] of weights that channels-last networks have. The rows of windows are gathered
 * block by block, so that memory does not grow with the image; the pixels themselves are the rows where the
 * window is 1 x 1. Where every channel is a group of its own, ferrule/conv_depthwise.h is faster.
 *
 * Packed weights are the packed linear layers (ferrule/linear.h) of all groups, one behind the other. `spec`
 * is that of one group; `weights` holds those of all groups, one behind the other. */
ferrule_status ferrule_conv_packed_size(const ferrule_linear_spec* spec, size_t groups, const char* isa,
                                        size_t* bytes);
ferrule_status ferrule_conv_pack(const ferrule_linear_spec* spec, size_t groups, const char* isa,
                                 const ferrule_linear_weights* weights, void* packed);

typedef struct ferrule_conv_args {
  const void* packed;
  size_t packed_bytes;
  size_t groups;
  const void* input; /* [batch][in_height][in_width][input_stride] */
  /* float32, which layers of integer input quantize: by FERRULE_INPUT_I8_STATIC with their range; by
   * FERRULE_INPUT_I8_DYNAMIC each image with the range of its values, or each pixel where the window is 1
   * x 1. Or codes, only for layers of FERRULE_INPUT_I8_STATIC: int8 of the layer's range, or uint8, the same
   * plus 128. */
  ferrule_gemm_input input_kind;
  void* output; /* [batch][out_height][out_width][output_stride], as the epilogue says */
  size_t input_stride, output_stride; /* elements from pixel to pixel; where float input is quantized and the
                                         window is not 1 x 1, input_stride is in_channels */
  size_t in_channels;                 /* of all groups */
  ferrule_window window;
  ferrule_epilogue epilogue; /* its rows are pixels */
} ferrule_conv_args;

/* Scratch memory for a pool of so many threads; 0 for arguments that ferrule_conv would refuse. */
size_t ferrule_conv_scratch(const ferrule_conv_args* args, size_t threads);

/* Runs on the instruction set that the weights are packed for. `scratch`: FERRULE_ALIGNMENT-aligned. */
ferrule_status ferrule_conv(const ferrule_conv_args* args, void* scratch, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
