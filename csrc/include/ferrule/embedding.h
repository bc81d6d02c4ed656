#ifndef FERRULE_EMBEDDING_H
#define FERRULE_EMBEDDING_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a table is coded; rows follow each other without gaps and each begins on a byte of its own. */
typedef enum ferrule_embedding_kind {
  FERRULE_EMBEDDING_F32 = 0, /* float32 [rows][width]; scales and palettes are not read */
  FERRULE_EMBEDDING_I8,      /* int8 [rows][width]: code * scale */
  FERRULE_EMBEDDING_I4,      /* [rows][(width + 1) / 2], two's complement, low nibble first: code * scale */
  FERRULE_EMBEDDING_LUT4,    /* [rows][(width + 1) / 2], unsigned, low nibble first: palette[code] * scale */
  FERRULE_EMBEDDING_LUT2     /* [rows][(width + 3) / 4], unsigned, lowest bits first: palette[code] * scale */
} ferrule_embedding_kind;

/* output[n][:] = output_scale * row indices[n] of the table. Unit of work: an index. Any alignment. */
typedef struct ferrule_embedding_args {
  int kind;            /* a ferrule_embedding_kind */
  int index_bytes;     /* 4 for int32 indices, 8 for int64 */
  const void* table;   /* as `kind` says */
  const float* scales; /* I8, I4: [rows][(width + group - 1) / group]; LUT4, LUT2: [rows], or NULL for ones */
  const float* palettes; /* LUT4: [palettes][16]; LUT2: [palettes][4] */
  const void* indices;   /* [count], each within [0, rows) */
  float* output;         /* [count][output_stride] */
  size_t group;          /* I8, I4: columns that share a scale, a multiple of 16, or 0 for the whole row */
  size_t palette_rows;   /* rows that share a palette, or 0 for all */
  size_t output_stride;  /* elements */
  size_t count, rows, width;
  float output_scale; /* 1 for none; Gemma's models have sqrt(width) */
} ferrule_embedding_args;

typedef void ferrule_embedding_fn(const ferrule_embedding_args* args, size_t begin, size_t end,
                                  void* scratch);

/* Indices beyond the table are refused with FERRULE_BAD_VALUE before anything is written. */
ferrule_status ferrule_embedding(const ferrule_embedding_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
