#ifndef FERRULE_QUANTIZE_ROWS_H
#define FERRULE_QUANTIZE_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of float32 as 8-bit codes: x ~ scales[r] * (code - zeros[r]), code = clamp(round(x / scale) + zero),
 * ties to even.
 *
 * With range_scale 0 each row has a scale and zero point of its own, from its smallest and largest value and
 * zero, so that zero is exact; a row that holds a NaN or an infinity gets the scale NaN. Otherwise all rows
 * have range_scale and range_zero, and values beyond that range are clamped; a row that holds a NaN gets the
 * scale NaN. Unit: a row. */
typedef struct ferrule_quantize_rows_args {
  const float* input; /* [rows][input_stride] */
  void* codes; /* [rows][codes_stride], uint8, or int8 where is_signed; those from width to padded become 0 */
  float* scales;       /* [rows] */
  int32_t* zeros;      /* [rows], among the codes: 0 to 255, or -128 to 127 where is_signed */
  size_t input_stride; /* elements from row to row */
  size_t codes_stride;
  size_t rows;
  size_t width;
  size_t padded;
  int is_signed;
  float range_scale;  /* 0: dynamic; else from 1e-30 to 1e30 */
  int32_t range_zero; /* -128 to 127 whatever is_signed says: the zero point of int8 codes */
} ferrule_quantize_rows_args;

typedef void ferrule_quantize_rows_fn(const ferrule_quantize_rows_args* args, size_t begin, size_t end,
                                      void* scratch);

ferrule_status ferrule_quantize_rows(const ferrule_quantize_rows_args* args, const char* isa,
                                     ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
