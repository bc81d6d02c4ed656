#ifndef FERRULE_HADAMARD_H
#define FERRULE_HADAMARD_H

#include <stddef.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* output[r][:] = scale * H . input[r][:] for the Hadamard matrix H of `width` = m * 2^k rows, which is the
 * Kronecker product of a matrix of m rows and Sylvester's of 2^k: H[i][j] = (-1)^popcount(i & j) where m
 * is 1. Scaled by 1 / sqrt(width) it is a rotation (Ashkboos et al., QuaRot), and for m = 1 its own inverse.
 *
 * The matrix of m rows is Paley's: for m = 12, 20, 60 the first construction, of the residues modulo m - 1;
 * for m = 28, 36 the second, of those modulo m / 2 - 1, which is symmetric. Only for these is H . H = width.
 *
 * Float32 throughout. Unit of work: a row. Any alignment; `output` may be `input`. */
typedef struct ferrule_hadamard_args {
  const float* input;                 /* [rows][input_stride] */
  float* output;                      /* [rows][output_stride] */
  size_t input_stride, output_stride; /* elements from row to row */
  size_t rows;
  size_t width; /* ferrule_hadamard_order(width) is not 0 */
  float scale;
  int transposed; /* not 0: by the transpose of H, which undoes H */
} ferrule_hadamard_args;

typedef void ferrule_hadamard_fn(const ferrule_hadamard_args* args, size_t begin, size_t end, void* scratch);

/* m of a width that can be transformed: the one of 1, 12, 20, 28, 36, 60 for which width / m is a power of
 * two. 0 where there is none and for widths beyond 2^24. */
size_t ferrule_hadamard_order(size_t width);

ferrule_status ferrule_hadamard(const ferrule_hadamard_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
