#ifndef FERRULE_MEAN_TOKENS_H
#define FERRULE_MEAN_TOKENS_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* output[b][:] = mean of input[b][t][:] over the tokens t whose mask[b][t] is not zero: the embedding of a
 * text (Reimers and Gurevych, Sentence-BERT, 2019). For `normalize` it is divided by its length, or by 1e-12
 * where that is shorter. A text without tokens becomes zeros. Unit of work: a text. Any alignment. */
typedef struct ferrule_mean_tokens_args {
  const float* input;  /* [batch][tokens][width] by the strides */
  const uint8_t* mask; /* [batch][mask_stride], or NULL: all tokens count */
  float* output;       /* [batch][output_stride] */
  size_t input_batch_stride, input_token_stride, mask_stride, output_stride; /* elements */
  size_t batch, tokens, width;
  int normalize;
} ferrule_mean_tokens_args;

typedef void ferrule_mean_tokens_fn(const ferrule_mean_tokens_args* args, size_t begin, size_t end,
                                    void* scratch);

ferrule_status ferrule_mean_tokens(const ferrule_mean_tokens_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
