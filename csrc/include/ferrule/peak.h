#ifndef FERRULE_PEAK_H
#define FERRULE_PEAK_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a core can do at most, so that a kernel's time has a share of it. */
typedef enum ferrule_peak_kind {
  FERRULE_PEAK_FMA,      /* float32 multiply-adds from registers: 2 operations each */
  FERRULE_PEAK_DOT_I8,   /* the instruction set's int8 products from registers: 2 operations a product */
  FERRULE_PEAK_DOT_BF16, /* the same of bfloat16 products, which are added to float32 sums */
  FERRULE_PEAK_READ      /* loads, front to back, of `memory` */
} ferrule_peak_kind;

/* One unit is 4096 rounds of the instructions, or one pass over the memory. A kernel adds what it did,
 * operations or bytes, to *done; a kind that the instruction set lacks adds nothing. */
typedef struct ferrule_peak_args {
  ferrule_peak_kind kind;
  const void* memory; /* 64-byte aligned */
  size_t bytes;       /* a multiple of 1024 */
  double* done;
  double* sink; /* keeps the work from being removed; add to it, never read it */
} ferrule_peak_args;

typedef void ferrule_peak_fn(const ferrule_peak_args* args, size_t begin, size_t end, void* scratch);

#ifdef __cplusplus
}
#endif

#endif
