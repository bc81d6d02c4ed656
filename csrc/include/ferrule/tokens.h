#ifndef FERRULE_TOKENS_H
#define FERRULE_TOKENS_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Token merging (Bolya et al., Token Merging: Your ViT But Faster), as the technique `tome` states it: tokens
 * keep the order of their positions. A plan says for each token before the position of the one after that it
 * went into. */

/* Plans. For each batch entry: a token's vector is the mean of metric[b][h][t][:] over the heads h, divided
 * by sqrt(|.|^2 + 1e-5 * width). Tokens at even positions look among those at odd ones for the one with the
 * greatest product, the first of equals; protected ones, the leading `protected_tokens`, and padding take no
 * part. The `count` tokens with the greatest products, of equals the first, go into their partners, or as
 * many as there are. Padding goes where the last kept token before it went.
 *
 * Float32, with an order of summation that is part of the definition, so that all kernels give the same plan,
 * ties included: products are fused and summed from the first element on; squares in 16 sums of every 16th
 * element, added by halves. A product that is NaN is less than all others.
 *
 * Unit of work: a batch entry. Any alignment of the arrays. */
typedef struct ferrule_token_match_args {
  const float* metric; /* element [b][h][t][i] at b * batch_stride + h * head_stride + t * token_stride + i */
  const float* sizes;  /* [batch][tokens], how many tokens each stands for, 0 at padding; NULL for ones */
  const int32_t* counts; /* [batch], how many to merge in each entry; NULL for `count` in all */
  int32_t* plan;         /* [batch][tokens] */
  int32_t* left;         /* [batch], how many tokens are left, padding not counted; or NULL */
  size_t batch_stride, head_stride, token_stride;
  size_t batch, heads, tokens, width;
  size_t protected_tokens;
  size_t count;
} ferrule_token_match_args;

/* `scratch` of a kernel: ferrule_token_match_scratch(args, 1) bytes, FERRULE_ALIGNMENT-aligned. */
typedef void ferrule_token_match_fn(const ferrule_token_match_args* args, size_t begin, size_t end,
                                    void* scratch);

/* Bytes of scratch for `threads` threads; 0 where the sizes overflow. */
size_t ferrule_token_match_scratch(const ferrule_token_match_args* args, size_t threads);

ferrule_status ferrule_token_match(const ferrule_token_match_args* args, const char* isa, ferrule_pool* pool,
                                   void* scratch);

/* Output tokens of a unit of work of token_merge. */
#define FERRULE_MERGE_TOKENS 64

/* output[b][o][:] = sum over the tokens t with plan[b][t] = o of input[b][t][:] * sizes[b][t] /
 * merged_sizes[b][o], and merged_sizes[b][o] = the sum of their sizes. Where that is 0 so is the output. A
 * plan may be any that stays below `left`. Unit of work: FERRULE_MERGE_TOKENS tokens of the output of a batch
 * entry, or the rest of them. Any alignment; `output` and `input` are apart. */
typedef struct ferrule_token_merge_args {
  const float* input;                      /* [batch][tokens][width] by strides */
  const float* sizes;                      /* [batch][tokens], or NULL for ones */
  const int32_t* plan;                     /* [batch][tokens] */
  float* output;                           /* [batch][left][width] by strides */
  float* merged_sizes;                     /* [batch][left], or NULL */
  size_t input_batch_stride, input_stride; /* elements from entry to entry and from token to token */
  size_t output_batch_stride, output_stride;
  size_t batch, tokens, left, width;
} ferrule_token_merge_args;

typedef void ferrule_token_merge_fn(const ferrule_token_merge_args* args, size_t begin, size_t end,
                                    void* scratch);

ferrule_status ferrule_token_merge(const ferrule_token_merge_args* args, const char* isa, ferrule_pool* pool);

/* Gives each token what it went into: output[b][t][:] = input[b][plan[b][t]][:]. Unit of work: a token of the
 * output, counted through the batch. `output` and `input` are apart. */
typedef struct ferrule_token_unmerge_args {
  const float* input;  /* [batch][left][width] by strides */
  const int32_t* plan; /* [batch][tokens] */
  float* output;       /* [batch][tokens][width] by strides */
  size_t input_batch_stride, input_stride;
  size_t output_batch_stride, output_stride;
  size_t batch, tokens, left, width;
} ferrule_token_unmerge_args;

typedef void ferrule_token_unmerge_fn(const ferrule_token_unmerge_args* args, size_t begin, size_t end,
                                      void* scratch);

ferrule_status ferrule_token_unmerge(const ferrule_token_unmerge_args* args, const char* isa,
                                     ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
