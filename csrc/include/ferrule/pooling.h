#ifndef FERRULE_POOLING_H
#define FERRULE_POOLING_H

#include <stddef.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"
#include "ferrule/window.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ferrule_pooling_kind {
  FERRULE_POOLING_MAX =
      0, /* of the pixels within the image; NaN if one of them is; -infinity where there are none */
  FERRULE_POOLING_AVERAGE /* over the pixels within the image, or, for count_padding, over those within the
                             image and its padding; zero where there are none. A dilation of 1 only. */
} ferrule_pooling_kind;

typedef enum ferrule_image_layout {
  FERRULE_CHANNELS_LAST = 0, /* [batch][height][width][channels], pixels a stride apart */
  FERRULE_CHANNELS_FIRST     /* [batch][channels][height][width] without gaps; strides are not read */
} ferrule_image_layout;

/* The pooled window of each output. The global average has a kernel as large as the image. Unit of work: a
 * row of outputs, of all channels (batch * out_height of them) or, with channels first, of one (batch *
 * channels * out_height). Any alignment; input and output must not overlap. */
typedef struct ferrule_pooling_args {
  int kind;          /* a ferrule_pooling_kind */
  int layout;        /* a ferrule_image_layout */
  int count_padding; /* read for averages */
  const float* input;
  float* output;
  ferrule_window window;
  size_t pad_bottom, pad_right; /* read for count_padding: where the padding ends */
  size_t channels;
  size_t input_stride, output_stride; /* elements from pixel to pixel */
} ferrule_pooling_args;

typedef void ferrule_pooling_fn(const ferrule_pooling_args* args, size_t begin, size_t end, void* scratch);

ferrule_status ferrule_pooling(const ferrule_pooling_args* args, const char* isa, ferrule_pool* pool);

/* The output size of one dimension; 0 where no window fits. `ceil_mode` lets the last window reach beyond the
 * padding, as long as it begins within the image or the padding before it (PyTorch's rule). */
size_t ferrule_pooling_outputs(size_t input, size_t kernel, size_t stride, size_t dilation, size_t pad_before,
                               size_t pad_after, int ceil_mode);

#ifdef __cplusplus
}
#endif

#endif
