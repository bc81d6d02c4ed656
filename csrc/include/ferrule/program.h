#ifndef FERRULE_PROGRAM_H
#define FERRULE_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A lowered model: a file of the target `native`, opened once and run any number of times. Not for use by two
 * threads at a time: the second is refused (FER-NAT-007). */
typedef struct ferrule_program ferrule_program;

typedef enum ferrule_dtype {
  FERRULE_FLOAT32 = 0,
  FERRULE_INT64,
  FERRULE_INT32,
  FERRULE_BOOL, /* one byte, 0 or 1 */
  FERRULE_INT8,
  FERRULE_UINT8
} ferrule_dtype;

#define FERRULE_MOST_RANK 8

/* Contiguous, in row-major order. */
typedef struct ferrule_array {
  ferrule_dtype dtype;
  size_t rank;
  size_t dims[FERRULE_MOST_RANK];
  void* data;
} ferrule_array;

/* What went wrong: a stable code (docs/errors.md), and a sentence that says what was found and what is
 * needed. */
typedef struct ferrule_error {
  char code[16];
  char text[512];
} ferrule_error;

/* Reads the file, checks all of it, and packs its weights for this CPU. threads: of the program, the calling
 * one counted in. NULL on failure, with `error` filled where it is not NULL; nothing is left behind. Tables
 * of embeddings are not copied but mapped: while the program is open the file may be removed, or another
 * renamed over it, but not written to or cut short (docs/targets/native.md). */
ferrule_program* ferrule_open(const char* path, size_t threads, ferrule_error* error);
void ferrule_close(ferrule_program* program); /* NULL is fine; not while it runs */

size_t ferrule_entry_count(const ferrule_program* program);
const char* ferrule_entry_name(const ferrule_program* program, size_t entry);
size_t ferrule_find_entry(const ferrule_program* program,
                          const char* name); /* the count where there is none */
size_t ferrule_input_count(const ferrule_program* program, size_t entry);
size_t ferrule_output_count(const ferrule_program* program, size_t entry);
const char* ferrule_input_name(const ferrule_program* program, size_t entry, size_t input);
const char* ferrule_output_name(const ferrule_program* program, size_t entry, size_t output);

/* One axis of an input: its length may be any from min to max. dim: the name that axes of one length share;
 * NULL where the length is fixed, or follows from those of other axes. */
typedef struct ferrule_axis {
  const char* dim;
  size_t min, max;
} ferrule_axis;

typedef struct ferrule_description {
  ferrule_dtype dtype;
  size_t rank;
  ferrule_axis axes[FERRULE_MOST_RANK];
} ferrule_description;

int ferrule_describe_input(const ferrule_program* program, size_t entry, size_t input,
                           ferrule_description* description, ferrule_error* error);

/* The dtypes and shapes that the outputs will have for inputs of these dtypes and shapes; `data` is neither
 * read nor filled, and nothing is computed. Returns as ferrule_run does. */
int ferrule_infer(ferrule_program* program, size_t entry, const ferrule_array* inputs, size_t input_count,
                  ferrule_array* outputs, size_t output_count, ferrule_error* error);

/* Runs entry point number `entry`. inputs: in the order of the program; they are read only. outputs: room for
 * as many as the entry point has; they are filled and point into the program's memory, which holds until its
 * next run or its end. Returns 1, or 0 with `error` filled where it is not NULL. Where it
 * fails, states are as before, but for slices that an op `write` has put into them. */
int ferrule_run(ferrule_program* program, size_t entry, const ferrule_array* inputs, size_t input_count,
                ferrule_array* outputs, size_t output_count, ferrule_error* error);

/* Puts all states back to their first values. */
int ferrule_reset(ferrule_program* program, ferrule_error* error);

#ifdef __cplusplus
}
#endif

#endif
