#ifndef FERRULE_ATTENTION_I8_H
#define FERRULE_ATTENTION_I8_H

#include "ferrule/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Attention whose two products multiply int8 codes, for models whose activations are quantized anyway. It
 * takes ferrule_attention_args: float32 in any order of axes, GQA, padding, `causal`, `sizes`, and a bias for
 * each key (query and head strides of 0). Keys and values of codes, `slopes` and `log_sums` are refused.
 *
 *   keys     minus their mean over the tokens of a head, which adds the same to all logits of a query and so
 *            changes nothing (SageAttention, arXiv 2410.02367); then signed codes, a scale for each token
 *   queries  signed codes, a scale for each token
 *   values   signed codes, a scale for each channel of a head over all its tokens
 *   weights  round(255 * exp(logit - max) + d), the max of a chunk of FERRULE_ATTENTION_I8_CHUNK keys, d of
 *            [-1/2, 1/2) by the place of the key: so many weights below half a step keep their sum. Chunks
 * are joined by the online softmax. Weights are divided by the sum of the rounded ones: shares sum to one
 *
 * Scales are max / 127. A query that sees no key, or only logits of -inf, gets zeros. NaN or infinity in a
 * query makes its outputs NaN; among the keys, sizes or biases of a head (-inf excepted, which hides a key),
 * all its outputs; among the values, those of its channel. Keys and values outside key_begins..key_ends are
 * not read. */
#define FERRULE_ATTENTION_I8_CHUNK 512

/* Writes the codes of keys and values to `prepared`. Unit: batch * kv_heads + kv head. */
typedef ferrule_attention_fn ferrule_attention_i8_prepare_fn;

/* Unit: (batch * query_heads + query head) * ceil(query_count / query_block) + block of queries. */
typedef ferrule_attention_fn ferrule_attention_i8_fn;

/* Whether ferrule_attention_i8 is the faster way to compute this: where the instruction set (NULL: the active
 * one) multiplies int8 codes, and enough queries share the work of quantizing the keys. */
int ferrule_attention_i8_pays(const ferrule_attention_args* args, const char* isa);

/* Bytes that ferrule_attention_i8 takes for `threads` threads: about two for each element of the keys, and a
 * constant for each thread. 0 where the arguments are refused. */
size_t ferrule_attention_i8_scratch(const ferrule_attention_args* args, size_t threads);

/* `scratch`: ferrule_attention_i8_scratch bytes for the threads of `pool`, FERRULE_ALIGNMENT-aligned. */
ferrule_status ferrule_attention_i8(const ferrule_attention_args* args, const char* isa, ferrule_pool* pool,
                                    void* scratch, size_t scratch_bytes);

#ifdef __cplusplus
}
#endif

#endif
