#ifndef FERRULE_ROPE_H
#define FERRULE_ROPE_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Which two features of a head are turned together. */
typedef enum ferrule_rope_pairs {
  FERRULE_ROPE_HALVES = 0, /* i and i + rotary / 2: Llama, GPT-NeoX */
  FERRULE_ROPE_NEIGHBOURS  /* 2 i and 2 i + 1: GPT-J and the paper */
} ferrule_rope_pairs;

/* Rotary position embedding (Su et al., RoFormer, 2021): the pairs (a, b) of the first `rotary` features of a
 * head become (a cos - b sin, b cos + a sin), with the table's row of the token's position; features from
 * `rotary` on are copied. Unit of work: a token, with all its heads. Any alignment; `output` may be `input`.
 */
typedef struct ferrule_rope_args {
  int pairs;            /* a ferrule_rope_pairs */
  const float* input;   /* [tokens][input_token_stride], heads input_head_stride apart */
  float* output;        /* likewise */
  const float* cosines; /* [table_rows][rotary / 2] */
  const float* sines;   /* [table_rows][rotary / 2] */
  const int32_t*
      positions; /* [tokens]: rows of the table, or NULL for first_position, first_position + 1, ... */
  size_t input_token_stride, input_head_stride, output_token_stride, output_head_stride; /* elements */
  size_t tokens, heads, width; /* width: features of a head */
  size_t rotary;               /* even, at most width */
  size_t table_rows, first_position;
} ferrule_rope_args;

typedef void ferrule_rope_fn(const ferrule_rope_args* args, size_t begin, size_t end, void* scratch);

/* Positions beyond the table are refused with FERRULE_BAD_VALUE before anything is written. */
ferrule_status ferrule_rope(const ferrule_rope_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
