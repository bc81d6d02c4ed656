#ifndef FERRULE_RATIONAL_H
#define FERRULE_RATIONAL_H

#include <stddef.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FERRULE_RATIONAL_NUMERATOR 6
#define FERRULE_RATIONAL_DENOMINATOR 4

/* How the denominator is kept from zero (Molina et al., Pade Activation Units, and its variants). */
typedef enum ferrule_rational_form {
  FERRULE_RATIONAL_TERMS, /* 1 + |b1||x| + |b2|x^2 + |b3||x|^3 + |b4|x^4: the group-rational layers of KAT,
                             FlashKAT */
  FERRULE_RATIONAL_SUM    /* 1 + |b1 x + b2 x^2 + b3 x^3 + b4 x^4| */
} ferrule_rational_form;

/* Group-rational activation (Yang and Wang, Kolmogorov-Arnold Transformer, section 4): output[r][i] = P(x) /
 * Q(x) of x = input[r][i], with P = a0 + a1 x + ... + a5 x^5 and Q as `form` says. The channels are divided
 * into `groups` neighbouring blocks of the same size, each with coefficients of its own.
 *
 * Computed in float32: finite as long as P and Q are, which for coefficients near one is up to |x| = 1e7. NaN
 * in, NaN out. Unit of work: a row. Any alignment; `output` may be `input`. */
typedef struct ferrule_rational_args {
  const float* input;                 /* [rows][input_stride] */
  const float* numerator;             /* a0 .. a5 of each group, numerator_stride apart */
  const float* denominator;           /* b1 .. b4 of each group, denominator_stride apart */
  float* output;                      /* [rows][output_stride] */
  size_t input_stride, output_stride; /* elements from row to row */
  size_t numerator_stride;   /* elements from group to group: 6 or more, or 0 where all groups share one */
  size_t denominator_stride; /* 4 or more, or 0 */
  size_t rows;
  size_t width; /* a multiple of `groups` */
  size_t groups;
  int form; /* a ferrule_rational_form */
} ferrule_rational_args;

typedef void ferrule_rational_fn(const ferrule_rational_args* args, size_t begin, size_t end, void* scratch);

ferrule_status ferrule_rational(const ferrule_rational_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
