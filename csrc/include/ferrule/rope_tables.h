#ifndef FERRULE_ROPE_TABLES_H
#define FERRULE_ROPE_TABLES_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The tables of ferrule/rope.h: cosines[r][i] = magnitude * cos(position(r) * frequency(i)), sines likewise,
 * computed in double. Unit of work: a row. */
typedef struct ferrule_rope_tables_args {
  const int32_t* positions;  /* [rows], or NULL for first_position, first_position + 1, ... */
  const double* frequencies; /* [half] radians a position, or NULL for theta^(-i / half) */
  float* cosines;            /* [rows][half] */
  float* sines;              /* [rows][half] */
  size_t rows, half, first_position;
  double theta;     /* 10000 in the paper; above zero; read only where frequencies are NULL */
  double magnitude; /* 1; YaRN (Peng et al., 2023) has others */
} ferrule_rope_tables_args;

typedef void ferrule_rope_tables_fn(const ferrule_rope_tables_args* args, size_t begin, size_t end,
                                    void* scratch);

ferrule_status ferrule_rope_tables(const ferrule_rope_tables_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
