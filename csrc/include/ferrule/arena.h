#ifndef FERRULE_ARENA_H
#define FERRULE_ARENA_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Alignment of everything that an arena hands out: a cache line and the widest vector. */
#define FERRULE_ALIGNMENT 64

/* Memory that is handed out front to back and given back all at once, or down to a mark. Not for use by
 * several threads at a time. Fields are read-only outside arena.cpp. */
typedef struct ferrule_arena {
  unsigned char* memory; /* FERRULE_ALIGNMENT-aligned */
  size_t capacity;
  size_t used;
  size_t highest; /* greatest `used` so far: what the arena would have to hold */
} ferrule_arena;

/* Allocates; returns 0 if memory ran out, else 1. */
int ferrule_arena_create(ferrule_arena* arena, size_t capacity);
void ferrule_arena_destroy(ferrule_arena* arena);

/* `bytes` of aligned, uninitialized memory; NULL if they do not fit. Never allocates. */
void* ferrule_arena_take(ferrule_arena* arena, size_t bytes);

/* Gives back everything that was taken since `used` had the value `mark`. */
void ferrule_arena_rewind(ferrule_arena* arena, size_t mark);

#ifdef __cplusplus
}
#endif

#endif
