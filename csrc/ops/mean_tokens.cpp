#include "ferrule/mean_tokens.h"

#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 32768;  // elements read

ferrule_status check(const ferrule_mean_tokens_args& args) {
  if (args.batch == 0 || args.width == 0) return FERRULE_OK;
  if (!args.output || (args.tokens && !args.input)) return FERRULE_BAD_SHAPE;
  if (args.output_stride < args.width) return FERRULE_BAD_LAYOUT;
  if (args.tokens > 1 && args.input_token_stride < args.width) return FERRULE_BAD_LAYOUT;
  if (args.tokens && args.batch > 1 && args.input_batch_stride < args.width) return FERRULE_BAD_LAYOUT;
  if (args.mask && args.batch > 1 && args.mask_stride < args.tokens) return FERRULE_BAD_LAYOUT;
  size_t texts = 0, tokens = 0;
  if (__builtin_mul_overflow(args.batch, args.input_batch_stride, &texts)) return FERRULE_TOO_LARGE;
  if (__builtin_mul_overflow(args.tokens, args.input_token_stride, &tokens)) return FERRULE_TOO_LARGE;
  if (__builtin_add_overflow(texts, tokens, &texts) || !ferrule::ops::fits(texts, 1, sizeof(float)))
    return FERRULE_TOO_LARGE;
  if (args.mask && !ferrule::ops::fits(args.batch, args.mask_stride, 1)) return FERRULE_TOO_LARGE;
  return ferrule::ops::fits(args.batch, args.output_stride, sizeof(float)) ? FERRULE_OK : FERRULE_TOO_LARGE;
}

}  // namespace

ferrule_status ferrule_mean_tokens(const ferrule_mean_tokens_args* args, const char* isa,
                                   ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_mean_tokens_fn>("mean_tokens", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args->batch == 0 || args->width == 0) return FERRULE_OK;
  const size_t smallest = kSmallestTask / args->width / (args->tokens + 1) + 1;
  ferrule::ops::run(kernel, *args, args->batch, ferrule::ops::choose_tasks(args->batch, smallest, pool),
                    pool);
  return FERRULE_OK;
}
