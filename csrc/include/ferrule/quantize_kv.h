#ifndef FERRULE_QUANTIZE_KV_H
#define FERRULE_QUANTIZE_KV_H

#include <stddef.h>

#include "ferrule/attention.h"
#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes tokens into a coded cache, in the form that ferrule_kv describes. For each group of channels:
 *
 *   asymmetric: low = clip * min(x), high = clip * max(x), scale = (high - low) / (2^bits - 1),
 *               offset = low - scale * (lowest code)
 *   symmetric (offsets NULL, int8 alone): scale = clip * max |x| / 127, offset = 0
 *   code = round((x - offset) / scale), to even, clamped to the codes of the kind; the lowest code where
 * scale is 0
 *
 * A clip below 1 (RotateKV: 0.8 at 2 bits) gives up large values for finer steps. A group with NaN gets
 * a NaN scale. Unit of work: a row, (batch * heads + head) * tokens + token. */
typedef struct ferrule_quantize_kv_args {
  const float* input; /* [batch][head][token][head_size], the first three in any order */
  size_t input_batch_stride, input_head_stride, input_token_stride; /* elements */
  int kind; /* a ferrule_kv_kind, not FERRULE_KV_F32 */
  unsigned char* codes;
  size_t code_batch_stride, code_head_stride, code_token_stride; /* bytes */
  float* scales;
  float* offsets;                                                   /* NULL: symmetric, FERRULE_KV_I8 only */
  size_t scale_batch_stride, scale_head_stride, scale_token_stride; /* elements */
  size_t batch, heads, tokens, head_size;
  size_t group; /* as in ferrule_kv */
  float clip;   /* (0, 1] */
} ferrule_quantize_kv_args;

typedef void ferrule_quantize_kv_fn(const ferrule_quantize_kv_args* args, size_t begin, size_t end,
                                    void* scratch);

ferrule_status ferrule_quantize_kv(const ferrule_quantize_kv_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
