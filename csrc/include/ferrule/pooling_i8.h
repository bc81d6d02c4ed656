#ifndef FERRULE_POOLING_I8_H
#define FERRULE_POOLING_I8_H

#include <stdint.h>

#include "ferrule/pooling.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Pooling of int8 codes, channels last; output codes have the input's scale and zero point. An average is
 * rounded to the nearest code, to even in the middle. Without pixels the maximum is -128 and the average
 * padding_code. Unit of work: a row of outputs. Any alignment; input and output must not overlap. */
typedef struct ferrule_pooling_i8_args {
  int kind;             /* a ferrule_pooling_kind */
  int count_padding;    /* read for averages */
  int32_t padding_code; /* the code of zero, within [-128, 127]: what counted padding has */
  const int8_t* input;
  int8_t* output;
  ferrule_window window; /* of at most 32768 taps */
  size_t pad_bottom, pad_right;
  size_t channels;
  size_t input_stride, output_stride; /* elements from pixel to pixel */
} ferrule_pooling_i8_args;

typedef void ferrule_pooling_i8_fn(const ferrule_pooling_i8_args* args, size_t begin, size_t end,
                                   void* scratch);

ferrule_status ferrule_pooling_i8(const ferrule_pooling_i8_args* args, const char* isa, ferrule_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
