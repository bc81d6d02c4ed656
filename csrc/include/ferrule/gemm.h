#ifndef FERRULE_GEMM_H
#define FERRULE_GEMM_H

#include <stddef.h>
#include <stdint.h>

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

/* One product: output[m][n] = epilogue(input[m][:] . weight[n][:] + bias[n]).
 *
 * Input. Integer kernels (gemm_i8, gemm_i4, gemm_lut4, gemm_lut2, gemm_sparse_i8) read uint8 codes u of rows,
 * with x = input_scales[m] * (u - input_zeros[m]); `depth_padded` codes a row, those past `depth` being
 * anything, since the packed weights are zero there. Float kernels (gemm_f32, gemm_f32_*) read float32 rows
 * of `depth`.
 *
 * Weights. Panels of `nr` neighbouring columns n, packed by ferrule_pack_gemm for the tile that the kernel's
 * row in kernels/tiles.inc names. The last panel is padded with zero columns.
 *
 * A kernel computes panels [begin, end) for all m rows; the caller divides m and panels over threads.
 * `scratch` is ferrule_gemm_scratch bytes, FERRULE_ALIGNMENT-aligned, for this thread alone. */
typedef struct ferrule_gemm_args {
  const void* input;
  size_t input_stride; /* elements from row to row */
  const float* input_scales;
  const int32_t* input_zeros;
  const void* packed;
  void* output; /* float32, or int8 where the epilogue requantizes */
  size_t output_stride;
  size_t m;
  size_t n;
  size_t depth;
  size_t group; /* columns of k that share a scale (Affine int4); 0: the whole row */
  ferrule_epilogue epilogue;
} ferrule_gemm_args;

#ifdef __cplusplus
}
#endif

#endif
