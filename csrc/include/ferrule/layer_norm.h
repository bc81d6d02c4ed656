#ifndef FERRULE_LAYER_NORM_H
#define FERRULE_LAYER_NORM_H

#include <stddef.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* output[r][:] = (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias, over x = input[r][:] (+
 * residual[r][:]). The variance is the biased one, computed from the centred values (two passes). Where `sum`
 * is given, x is written there too: the residual stream that a transformer goes on with. Unit of work: a row.
 * Any alignment; `output` may be `input`. */
typedef struct ferrule_layer_norm_args {
  const float* input;    /* [rows][input_stride] */
  const float* residual; /* [rows][residual_stride], or NULL for none */
  const float* weight;   /* [width], or NULL for ones */
  const float* bias;     /* [width], or NULL for zeros */
  float* output;         /* [rows][output_stride] */
  float* sum;            /* [rows][sum_stride], or NULL; may be `residual` */
  size_t input_stride, residual_stride, output_stride, sum_stride; /* elements from row to row */
  size_t rows;
  size_t width;
  float epsilon;
} ferrule_layer_norm_args;

typedef void ferrule_layer_norm_fn(const ferrule_layer_norm_args* args, size_t begin, size_t end,
                                   void* scratch);

/* `isa`: the highest instruction set to use, or NULL for the active one; so in every op. */
ferrule_status ferrule_layer_norm(const ferrule_layer_norm_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
