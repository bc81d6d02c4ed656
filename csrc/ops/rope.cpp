#include "ferrule/rope.h"

#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 8192;  // elements

// Whether heads of `width` elements lie apart from each other, tokens from heads, and all within an object.
ferrule_status check_layout(const ferrule_rope_args& args, size_t token_stride, size_t head_stride) {
  if (args.heads > 1 && head_stride < args.width) return FERRULE_BAD_LAYOUT;
  size_t extent = 0;
  if (__builtin_mul_overflow(args.heads - 1, head_stride, &extent)) return FERRULE_TOO_LARGE;
  if (__builtin_add_overflow(extent, args.width, &extent)) return FERRULE_TOO_LARGE;
  // Tokens may also lie within heads: [heads][tokens][width].
  if (args.tokens > 1 && token_stride < args.width) return FERRULE_BAD_LAYOUT;
  size_t tokens = 0;
  if (__builtin_mul_overflow(args.tokens - 1, token_stride, &tokens)) return FERRULE_TOO_LARGE;
  if (__builtin_add_overflow(extent, tokens, &extent)) return FERRULE_TOO_LARGE;
  return ferrule::ops::fits(extent, 1, sizeof(float)) ? FERRULE_OK : FERRULE_TOO_LARGE;
}

bool positions_lie_within(const ferrule_rope_args& args) {
  if (!args.positions)
    return args.tokens <= args.table_rows && args.first_position <= args.table_rows - args.tokens;
  for (size_t t = 0; t < args.tokens; ++t) {
    if (args.positions[t] < 0 || static_cast<size_t>(args.positions[t]) >= args.table_rows) return false;
  }
  return true;
}

bool is_empty(const ferrule_rope_args& args) {
  return args.tokens == 0 || args.heads == 0 || args.width == 0;
}

ferrule_status check(const ferrule_rope_args& args) {
  if (args.pairs != FERRULE_ROPE_HALVES && args.pairs != FERRULE_ROPE_NEIGHBOURS) return FERRULE_BAD_TYPE;
  if (args.rotary % 2 != 0 || args.rotary > args.width) return FERRULE_BAD_SHAPE;
  if (is_empty(args)) return FERRULE_OK;
  if (!args.input || !args.output) return FERRULE_BAD_SHAPE;
  if (args.rotary && (!args.cosines || !args.sines)) return FERRULE_BAD_SHAPE;
  if (const ferrule_status status = check_layout(args, args.input_token_stride, args.input_head_stride))
    return status;
  if (const ferrule_status status = check_layout(args, args.output_token_stride, args.output_head_stride))
    return status;
  if (!ferrule::ops::fits(args.table_rows, args.rotary, sizeof(float))) return FERRULE_TOO_LARGE;
  return positions_lie_within(args) ? FERRULE_OK : FERRULE_BAD_VALUE;
}

}  // namespace

ferrule_status ferrule_rope(const ferrule_rope_args* args, const char* isa, ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_rope_fn>("rope", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (is_empty(*args)) return FERRULE_OK;
  const size_t smallest = kSmallestTask / args->heads / args->width + 1;
  ferrule::ops::run(kernel, *args, args->tokens, ferrule::ops::choose_tasks(args->tokens, smallest, pool),
                    pool);
  return FERRULE_OK;
}
