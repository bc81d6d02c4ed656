#ifndef FERRULE_GEMM_H
#define FERRULE_GEMM_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What follows a sum before it is written, in this order: bias, activation, residual, requantization. */
typedef enum ferrule_activation {
  FERRULE_ACTIVATION_NONE = 0,
  FERRULE_ACTIVATION_RELU,
  FERRULE_ACTIVATION_GELU,      /* x * Phi(x), by the error function */
  FERRULE_ACTIVATION_GELU_TANH, /* the approximation by tanh */
  FERRULE_ACTIVATION_SILU,
  FERRULE_ACTIVATION_RELU6,     /* min(max(x, 0), 6) */
  FERRULE_ACTIVATION_HARD_SWISH /* x * min(max(x + 3, 0), 6) / 6 */
} ferrule_activation;

typedef struct ferrule_epilogue {
  ferrule_activation activation;
  const float* residual; /* [m][residual_stride], or NULL for none; may be the output itself */
  size_t residual_stride;
  float output_scale; /* 0: the output is float32; else int8 = clamp(round(y / output_scale) + output_zero) */
  int32_t output_zero;
} ferrule_epilogue;

/* What a kernel's rows of `input` hold. */
typedef enum ferrule_gemm_input {
  FERRULE_GEMM_F32 = 0,
  FERRULE_GEMM_U8, /* x = input_scales[m] * (u - input_zeros[m]) */
  FERRULE_GEMM_S8  /* the same for int8 codes: u - 128 and zeros less 128 */
} ferrule_gemm_input;

/* Packed weights: panels of `columns` neighbouring output features n, each of `bytes` bytes, the last one
 * padded with columns of code 0 and scale 0. A panel starts at a multiple of FERRULE_ALIGNMENT; so do its
 * sections:
 *
 * codes, at 0. For each step of `step` neighbouring k: [columns][step] codes. Several steps share the bytes:
 * at 4 bits, [columns][step] bytes hold step 2j in their low nibbles and step 2j + 1 in the high ones; at 2
 * bits, steps 4j to 4j + 3 from the lowest bits up. So a whole vector is unpacked by shift and mask. bits 32:
 * float32 weights; 8: int8; 4: int8 in [-8, 7] as a nibble in two's complement (gemm_i4, gemm_f32_i4), or an
 * index (lookups); 2: an index. Codes of k from the depth to `padded` are 0.
 *
 * 2:4 sparse codes, of gemm_sparse_*: two of every four k are kept, in order. For each 32 neighbouring k
 * first [columns] doublewords of places, then the kept values: [16][columns] float32, or [4][columns][4]
 * int8, where the values of 8 k lie together. Bits 2p and 2p + 1 of byte j of a doubleword are the place,
 * among its four k, of kept value 4p + j.
 *
 * group_scales: bfloat16 [groups][columns], only where groups > 0 (4-bit Affine, a scale for each group of
 * k).
 *
 * scales: float32 [columns]. weight = scale * code, scale * table[code], or group_scale * code with scale 1.
 *
 * sums: for integer inputs, what the codes (or palette entries) of a column sum to, for the zero point of the
 *   input. int32 [columns]; where groups > 0, float32: the sum of group_scale times the codes.
 *
 * bias: float32 [columns], 0 where there is none.
 *
 * tables: for lookups, [columns / palette] palettes. Integer inputs: int8 [16], 2-bit palettes four times
 * over; what rounds them to int8 is in `scales`. Float inputs: float32 [2^bits]. */
typedef struct ferrule_panel_layout {
  size_t columns; /* nr of the tile */
  size_t step;    /* kr of the tile */
  size_t palette; /* columns that can have a palette of their own; divides `columns` */
  size_t bits;
  size_t depth;  /* k */
  size_t padded; /* depth rounded up to whole bytes of codes */
  size_t group;  /* k that share a scale, a multiple of the steps in a byte; 0: the whole depth */
  size_t groups; /* scales of a column; 0 where group is */
  ferrule_gemm_input input;
  size_t group_scales, scales, sums, bias, tables; /* offsets of the sections within a panel, bytes */
  size_t bytes;
} ferrule_panel_layout;

/* One product: output[m][n] = epilogue(input[m][:] . weight[n][:] + bias[n]).
 *
 * Rows of integer inputs hold `layout.padded` codes, of which those from the depth on are 0. Rows of float
 * inputs hold `layout.depth` values. A kernel computes panels [begin, end) for all m rows; the caller divides
 * m and panels over threads. Every kernel but the scalar ones takes only the tile and input that its row in
 * kernels/tiles.inc names. `scratch`: ferrule_gemm_scratch bytes, FERRULE_ALIGNMENT-aligned, for this thread
 * alone. */
typedef struct ferrule_gemm_args {
  const void* input;
  size_t input_stride;        /* elements from row to row */
  const float* input_scales;  /* [m]; NULL for float inputs */
  const int32_t* input_zeros; /* [m]; NULL for float inputs */
  int uniform;                /* other than 0: scales and zeros of all rows are those of the first */
  const void* packed;         /* panels */
  void* output;               /* float32, or int8 where the epilogue requantizes */
  size_t output_stride;       /* elements from row to row */
  size_t m;
  size_t n;
  ferrule_panel_layout layout;
  ferrule_epilogue epilogue;
} ferrule_gemm_args;

typedef void ferrule_gemm_fn(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch);
typedef ferrule_gemm_fn ferrule_gemm_i8_fn; /* int8 weights, a scale for each column; integer input */
typedef ferrule_gemm_fn
    ferrule_gemm_i4_fn; /* int4 weights, a scale for each column or group; integer input */
typedef ferrule_gemm_fn ferrule_gemm_lut4_fn; /* 4-bit lookup; integer input */
typedef ferrule_gemm_fn ferrule_gemm_lut2_fn; /* 2-bit lookup; integer input */

typedef ferrule_gemm_fn ferrule_gemm_f32_fn;      /* float32 weights; float32 input, as in all that follow */
typedef ferrule_gemm_fn ferrule_gemm_f32_i8_fn;   /* int8 weights, a scale for each column */
typedef ferrule_gemm_fn ferrule_gemm_f32_i4_fn;   /* int4 weights, a scale for each column or group */
typedef ferrule_gemm_fn ferrule_gemm_f32_lut4_fn; /* 4-bit lookup */
typedef ferrule_gemm_fn ferrule_gemm_f32_lut2_fn; /* 2-bit lookup */

typedef ferrule_gemm_fn ferrule_gemm_sparse_f32_fn; /* 2:4 sparse float32 weights; float32 input */
typedef ferrule_gemm_fn ferrule_gemm_sparse_i8_fn;  /* 2:4 sparse int8 weights; integer input */

/* Scratch memory of any kernel over this layout: unpacked weights, and room for sums. */
size_t ferrule_gemm_scratch(const ferrule_panel_layout* layout);

/* The layout that the kernel of `op` in exactly `isa` reads. FERRULE_BAD_ISA without a row in
 * kernels/tiles.inc, FERRULE_BAD_LAYOUT for a group that does not suit the tile, FERRULE_TOO_LARGE where
 * sizes overflow. */
ferrule_status ferrule_lay_out_panels(const char* op, const char* isa, size_t depth, size_t group,
                                      ferrule_panel_layout* layout);

#ifdef __cplusplus
}
#endif

#endif
