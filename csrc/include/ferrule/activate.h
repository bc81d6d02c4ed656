#ifndef FERRULE_ACTIVATE_H
#define FERRULE_ACTIVATE_H

#include <stddef.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Greatest error of the vector kernels against the function in real numbers, over all floats: an absolute
 * part plus a part of the true value (tests/activate.cpp holds them to it). NaN gives NaN; -infinity gives
 * the limit, zero, in the functions that have one. */
typedef enum ferrule_activate_kind {
  FERRULE_ACTIVATE_RELU = 0,   /* max(x, 0); exact */
  FERRULE_ACTIVATE_RELU6,      /* min(max(x, 0), 6); exact */
  FERRULE_ACTIVATE_HARD_SWISH, /* x / 6 * min(max(x + 3, 0), 6); 3e-7 + 3e-7 */
  FERRULE_ACTIVATE_GELU,       /* x * Phi(x) (Hendrycks and Gimpel, 2016); 1e-6 + 3e-7 */
  FERRULE_ACTIVATE_GELU_TANH,  /* x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))); 4e-7 + 4e-7 */
  FERRULE_ACTIVATE_SILU,       /* x / (1 + e^-x); 2e-36 + 3e-7 */
  FERRULE_ACTIVATE_SIGMOID,    /* 1 / (1 + e^-x); 3e-38 + 3e-7 */
  FERRULE_ACTIVATE_TANH,       /* 0 + 5e-7 */
  FERRULE_ACTIVATE_EXP         /* 0 + 2e-7, and a last place in results below 2^-126 */
} ferrule_activate_kind;

/* Elements of a unit of work. */
#define FERRULE_ACTIVATE_BLOCK 4096

/* output[r][i] = f(input[r][i]), or f(input[r][i]) * factor[r][i] where a factor is given: gated layers such
 * as SwiGLU (Shazeer, GLU Variants Improve Transformer, 2020), whose input is the gate and whose factor is
 * the other product.
 *
 * A row is cut into blocks of FERRULE_ACTIVATE_BLOCK elements, the last one being shorter; blocks are counted
 * row by row and are the units of work. Any alignment; `output` may be `input` or `factor`. */
typedef struct ferrule_activate_args {
  int kind;                                          /* a ferrule_activate_kind */
  const float* input;                                /* [rows][input_stride] */
  const float* factor;                               /* [rows][factor_stride], or NULL for none */
  float* output;                                     /* [rows][output_stride] */
  size_t input_stride, factor_stride, output_stride; /* elements from row to row */
  size_t rows;
  size_t width;
} ferrule_activate_args;

typedef void ferrule_activate_fn(const ferrule_activate_args* args, size_t begin, size_t end, void* scratch);

ferrule_status ferrule_activate(const ferrule_activate_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
