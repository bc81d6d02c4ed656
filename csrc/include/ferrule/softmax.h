#ifndef FERRULE_SOFTMAX_H
#define FERRULE_SOFTMAX_H

#include <stddef.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* output[r][i] = e^(y[i] - max y) / sum of these, over y[i] = scale * input[r][i] (+ mask[r][i]); or, for
 * `logarithm`, y[i] - max y - log(sum). A row whose y are all -infinity has no softmax: it becomes zeros, and
 * -infinity under `logarithm`. A row with a NaN becomes NaN. Probabilities below 2^-125 may be flushed to
 * zero. Unit of work: a row. Any alignment; `output` may be `input`. */
typedef struct ferrule_softmax_args {
  const float* input; /* [rows][input_stride] */
  const float* mask;  /* [rows][mask_stride], or NULL for none; mask_stride 0: one row for all */
  float* output;      /* [rows][output_stride] */
  size_t input_stride, mask_stride, output_stride; /* elements from row to row */
  size_t rows;
  size_t width;
  float scale; /* finite and above zero */
  int logarithm;
} ferrule_softmax_args;

typedef void ferrule_softmax_fn(const ferrule_softmax_args* args, size_t begin, size_t end, void* scratch);

ferrule_status ferrule_softmax(const ferrule_softmax_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
