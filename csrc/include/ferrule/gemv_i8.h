#ifndef FERRULE_GEMV_I8_H
#define FERRULE_GEMV_I8_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Greatest depth for which the int32 accumulator cannot overflow: one product is at most
 * 128 * 255 in magnitude (weight -128, activation 127 less zero point -128), and
 * 65536 * 32640 < 2^31. */
#define FERRULE_GEMV_I8_MAX_DEPTH 65536

/* One row of activations times an int8 weight matrix:
 *
 *   output[n] = activation_scale * weight_scales[n]
 *               * sum_k weights[n][k] * (activations[k] - activation_zero) + bias[n]
 *
 * The sum is exact in int32. The float steps are rounded one by one in the order
 * (activation_scale * weight_scales[n]) * sum + bias[n], so every kernel gives the same bits.
 * No alignment beyond that of the element type is asked for. */
typedef struct ferrule_gemv_i8_args {
  const int8_t* weights;      /* [rows][depth], C order */
  const float* weight_scales; /* [rows] */
  const int8_t* activations;  /* [depth] */
  float activation_scale;
  int32_t activation_zero; /* -128..127 */
  const float* bias;       /* [rows], or NULL for none */
  float* output;           /* [rows], written */
  size_t rows;
  size_t depth; /* at most FERRULE_GEMV_I8_MAX_DEPTH */
} ferrule_gemv_i8_args;

typedef void ferrule_gemv_i8_fn(const ferrule_gemv_i8_args* args);

#ifdef __cplusplus
}
#endif

#endif
