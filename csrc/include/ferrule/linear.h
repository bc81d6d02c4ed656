#ifndef FERRULE_LINEAR_H
#define FERRULE_LINEAR_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/gemm.h"
#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A linear layer with weights of any codec: packed once, for one instruction set, then used for any number of
 * rows. */
typedef enum ferrule_weight_kind {
  FERRULE_WEIGHT_F32 = 0,
  FERRULE_WEIGHT_AFFINE8, /* int8 codes, a scale for each row */
  FERRULE_WEIGHT_AFFINE4, /* int8 codes in [-8, 7], a scale for each row or for each group of columns */
  FERRULE_WEIGHT_LOOKUP4, /* uint8 codes below 16, indices into a palette; a scale for each row */
  FERRULE_WEIGHT_LOOKUP2  /* uint8 codes below 4 */
} ferrule_weight_kind;

typedef enum ferrule_input_kind {
  FERRULE_INPUT_F32 = 0,    /* rows of float32 as they are */
  FERRULE_INPUT_I8_DYNAMIC, /* quantized to int8 row by row as they arrive (quantize_rows.h) */
  FERRULE_INPUT_I8_STATIC   /* quantized by input_scale and input_zero */
} ferrule_input_kind;

typedef struct ferrule_linear_spec {
  ferrule_weight_kind weight;
  ferrule_input_kind input;
  int sparse24; /* 1: of every four neighbouring weights of a row at most two are other than 0, and those are
                   kept */
  size_t rows;  /* output features */
  size_t depth; /* input features */
  size_t group; /* Affine: columns that share a scale; Lookup: rows that share a palette; 0: all of them */
  float input_scale;  /* FERRULE_INPUT_I8_STATIC; else 0 */
  int32_t input_zero; /* -128 to 127 */
} ferrule_linear_spec;

typedef struct ferrule_linear_weights {
  const float* values; /* [rows][depth], FERRULE_WEIGHT_F32 */
  const void* codes;   /* [rows][depth], one a byte, the other kinds */
  const float* scales; /* [rows][groups], where grouped exactly bfloat16; Lookup: [rows], or NULL for ones */
  const float* table;  /* [palettes][2^bits], Lookup */
  const float* bias;   /* [rows], or NULL for zeros */
} ferrule_linear_weights;

/* What a packed layer says of itself. */
typedef struct ferrule_linear_info {
  ferrule_linear_spec spec;
  const char* op;  /* the kernel that computes it */
  const char* isa; /* the row of kernels/table.inc that reads it */
  size_t bytes;
  float palette_error; /* Lookup with int8 inputs: largest rounding of a palette entry, relative to the
                          palette's largest */
} ferrule_linear_info;

/* Bytes that ferrule_linear_pack writes; `isa` as in every op. */
ferrule_status ferrule_linear_packed_size(const ferrule_linear_spec* spec, const char* isa, size_t* bytes);

/* Packs into `packed`, FERRULE_ALIGNMENT-aligned. The bytes depend on nothing but the arguments, start with a
 * header that names version, instruction set and spec, and may be kept in a file and mapped.
 * FERRULE_BAD_VALUE for codes out of range, values that are not finite and group scales that bfloat16 does
 * not hold exactly. */
ferrule_status ferrule_linear_pack(const ferrule_linear_spec* spec, const char* isa,
                                   const ferrule_linear_weights* weights, void* packed);

/* Reads the header: FERRULE_BAD_PACKED if it is none, or damaged, of another version, or for an instruction
 * set that cannot be used here; also where `whole` is 1 and the checksum of the content is wrong. */
ferrule_status ferrule_linear_check(const void* packed, size_t bytes, int whole, ferrule_linear_info* info);

typedef struct ferrule_linear_args {
  const void* packed;
  size_t packed_bytes;
  const float* input;  /* [m][input_stride] */
  size_t input_stride; /* elements from row to row */
  void* output;        /* [m][output_stride], float32, or int8 where the epilogue requantizes */
  size_t output_stride;
  size_t m;
  ferrule_epilogue epilogue;
} ferrule_linear_args;

/* Scratch memory that ferrule_linear needs for m rows on a pool of so many threads; 0 for a layer that it
 * would refuse. */
size_t ferrule_linear_scratch(const void* packed, size_t packed_bytes, size_t m, size_t threads);

/* output = epilogue(input . weight^T + bias). `scratch`: FERRULE_ALIGNMENT-aligned. Allocates nothing. Checks
 * the header of the packed layer but not its content: call ferrule_linear_check once on bytes that were read
 * from a file. */
ferrule_status ferrule_linear(const ferrule_linear_args* args, void* scratch, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
