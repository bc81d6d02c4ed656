#ifndef FERRULE_ATTENTION_H
#define FERRULE_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How keys or values are stored. */
typedef enum ferrule_kv_kind {
  FERRULE_KV_F32 = 0,
  FERRULE_KV_I8, /* signed codes -128..127 */
  FERRULE_KV_I4, /* codes 0..15 */
  FERRULE_KV_I2  /* codes 0..3 */
} ferrule_kv_kind;

/* Keys or values of [batch][kv head][token][head_size], in any order of the first three.
 *
 * Codes: x = scale * code + offset, with a scale and an offset for each token, head and `group` neighbouring
 * channels. A row (one token of one head) takes n = ceil(head_size * bits / 8) bytes, in planes: byte j holds
 * the codes of channels j, n + j, 2n + j, .., the first in its lowest bits. So a vector of bytes gives
 * vectors of neighbouring channels by shifts alone. `ferrule_quantize_kv` writes this form. */
typedef struct ferrule_kv {
  int kind;                                       /* a ferrule_kv_kind */
  const void* data;                               /* float32, or codes */
  size_t batch_stride, head_stride, token_stride; /* in elements of float32, or in bytes of codes */
  const float* scales;  /* [batch][kv head][token][groups]; only for codes, as all below */
  const float* offsets; /* laid out as `scales`; NULL for zeros, with FERRULE_KV_I8 only */
  size_t scale_batch_stride, scale_head_stride, scale_token_stride; /* elements; groups lie side by side */
  size_t group; /* channels that share a scale: a multiple of 16, or 0 for the whole row */
} ferrule_kv;

/* Attention after FlashAttention-2 (Dao, arXiv 2307.08691): exact, in tiles, with an online softmax whose
 * output stays un-normalised until the end; memory does not grow with queries * keys. For query head h, with
 * kv head h / (query_heads / kv_heads):
 *
 *   logit[i][j] = scale * q[i] . k[j] + bias[i][j] + slopes[h] * (j - i - (keys - queries)) + log(sizes[j])
 *   output[i]   = sum over visible j of softmax(logit[i])[j] * v[j]
 *
 * Key j is visible where key_begins <= j < key_ends and, if `causal`, j <= i + keys - queries: the last query
 * sees all keys (bottom-right alignment). A query that sees no key, or only logits of -inf, gets zeros and a
 * log-sum of -inf. NaN in what a query sees gives NaN. Keys and values outside key_begins..key_ends are not
 * read; those that `causal` or an infinite bias hides must be finite. `slopes` is ALiBi, a bias with strides
 * of 0 is T5's, `sizes` is token merging. */
typedef struct ferrule_attention_args {
  const float* queries; /* [batch][query head][query][head_size], the first three in any order; so `output` */
  float* output;
  float* log_sums; /* log(sum(exp(logit))): [batch][query_heads][queries], or NULL */
  size_t query_batch_stride, query_head_stride, query_stride; /* elements; so all below */
  size_t output_batch_stride, output_head_stride, output_stride;
  ferrule_kv keys, values;
  const float* bias; /* [batch][query head][query][key], or NULL; any stride may be 0 */
  size_t bias_batch_stride, bias_head_stride, bias_query_stride, bias_key_stride;
  const float* slopes;       /* [query_heads], or NULL */
  const float* sizes;        /* [batch][key_count], how many tokens a key stands for; or NULL */
  const int32_t* key_begins; /* [batch], 0..key_count, for padding on the left; NULL for zeros */
  const int32_t* key_ends;   /* [batch], 0..key_count, for padding on the right; NULL for key_count */
  size_t batch, query_heads, kv_heads, query_count, key_count, head_size;
  float scale;
  int causal;
  /* How the work is divided. ferrule_attention sets these itself. */
  size_t query_block; /* queries of a prefill unit */
  size_t slices;      /* parts into which decode divides the keys */
  float* partials;    /* decode with several slices: [unit][row][head_size + 2], see below */
  void* prepared;     /* the codes of attention_i8 */
} ferrule_attention_args;

typedef void ferrule_attention_fn(const ferrule_attention_args* args, size_t begin, size_t end,
                                  void* scratch);

/* Many queries. Unit: (batch * query_heads + query head) * ceil(query_count / query_block) + block of
 * queries. */
typedef ferrule_attention_fn ferrule_attention_prefill_fn;

/* Few queries over many keys, the queries of all heads that share a kv head taken together: row (query head %
 * group) * query_count + query. Unit: (batch * kv_heads + kv head) * slices + slice. With one slice the
 * output is written; with more, each row of `partials` gets a base b, the sum of exp(logit) / 2^b and the sum
 * of exp(logit) / 2^b * v, which ferrule_attention combines by their log-sums. */
typedef ferrule_attention_fn ferrule_attention_decode_fn;

/* Bytes that ferrule_attention takes for `threads` threads. They depend on head_size, and for decode on the
 * number of rows; not on key_count. 0 where the arguments are refused. */
size_t ferrule_attention_scratch(const ferrule_attention_args* args, size_t threads);

/* `scratch`: ferrule_attention_scratch bytes for the threads of `pool`, FERRULE_ALIGNMENT-aligned. */
ferrule_status ferrule_attention(const ferrule_attention_args* args, const char* isa, ferrule_pool* pool,
                                 void* scratch, size_t scratch_bytes);

#ifdef __cplusplus
}
#endif

#endif
