#ifndef FERRULE_RMS_NORM_H
#define FERRULE_RMS_NORM_H

#include <stddef.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* output[r][:] = x / sqrt(mean(x^2) + epsilon) * weight, over x = input[r][:] (+ residual[r][:]) (Zhang and
 * Sennrich, Root Mean Square Layer Normalization, 2019; as in Llama). Where `sum` is given, x is written
 * there too: the residual stream that a transformer goes on with. Sums of squares must fit a float. Unit of
 * work: a row. Any alignment; `output` may be `input`. */
typedef struct ferrule_rms_norm_args {
  const float* input;    /* [rows][input_stride] */
  const float* residual; /* [rows][residual_stride], or NULL for none */
  const float* weight;   /* [width], or NULL for ones */
  float* output;         /* [rows][output_stride] */
  float* sum;            /* [rows][sum_stride], or NULL; may be `residual` or `input` */
  size_t input_stride, residual_stride, output_stride, sum_stride; /* elements from row to row */
  size_t rows;
  size_t width;
  float epsilon;
} ferrule_rms_norm_args;

typedef void ferrule_rms_norm_fn(const ferrule_rms_norm_args* args, size_t begin, size_t end, void* scratch);

ferrule_status ferrule_rms_norm(const ferrule_rms_norm_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
