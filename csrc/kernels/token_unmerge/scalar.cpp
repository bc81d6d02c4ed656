#include <string.h>

#include "kernels/declarations.h"

// Copies of whole rows, which no instruction set does better than memcpy.
void ferrule_token_unmerge_scalar(const ferrule_token_unmerge_args* args, size_t begin, size_t end, void*) {
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t entry = unit / args->tokens, token = unit % args->tokens;
    const auto from = static_cast<size_t>(args->plan[unit]);
    memcpy(args->output + entry * args->output_batch_stride + token * args->output_stride,
           args->input + entry * args->input_batch_stride + from * args->input_stride,
           args->width * sizeof(float));
  }
}
