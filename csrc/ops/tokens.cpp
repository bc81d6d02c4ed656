#include "ferrule/tokens.h"

#include <math.h>

#include "ferrule/arena.h"
#include "kernels/token_match/plan.h"
#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 16384;  // elements

// Whether an array of counts[0] x counts[1] x ... elements by strides, the last axis dense, can be addressed.
bool reaches(size_t entries, size_t entry_stride, size_t rows, size_t row_stride, size_t width) {
  size_t far = 0, near = 0;
  return !__builtin_mul_overflow(entries - 1, entry_stride, &far) &&
         !__builtin_mul_overflow(rows - 1, row_stride, &near) && !__builtin_add_overflow(far, near, &far) &&
         !__builtin_add_overflow(far, width, &far) && far <= PTRDIFF_MAX / sizeof(float);
}

ferrule_status check_sizes(const float* sizes, size_t count) {
  for (size_t i = 0; sizes && i < count; ++i) {
    if (!(sizes[i] >= 0) || isinf(sizes[i])) return FERRULE_BAD_VALUE;
  }
  return FERRULE_OK;
}

ferrule_status check_plan(const int32_t* plan, size_t count, size_t left) {
  for (size_t i = 0; i < count; ++i) {
    if (plan[i] < 0 || static_cast<size_t>(plan[i]) >= left) return FERRULE_BAD_VALUE;
  }
  return FERRULE_OK;
}

ferrule_status check(const ferrule_token_match_args& args, const void* scratch) {
  if (args.batch == 0 || args.tokens == 0) return FERRULE_OK;
  if (!args.metric || !args.plan || !scratch || args.heads == 0 || args.width == 0) return FERRULE_BAD_SHAPE;
  if (args.token_stride < args.width) return FERRULE_BAD_LAYOUT;
  if (reinterpret_cast<uintptr_t>(scratch) % FERRULE_ALIGNMENT != 0) return FERRULE_BAD_LAYOUT;
  size_t heads = 0;
  if (args.tokens > INT32_MAX || !ferrule::ops::fits(args.batch, args.tokens, sizeof(float)) ||
      ferrule_token_match_scratch(&args, 1) == 0 ||
      !reaches(args.batch, args.batch_stride, args.tokens, args.token_stride, args.width) ||
      __builtin_mul_overflow(args.heads - 1, args.head_stride, &heads) ||
      !reaches(args.batch, args.batch_stride, 2, heads, args.tokens * args.token_stride)) {
    return FERRULE_TOO_LARGE;
  }
  for (size_t i = 0; args.counts && i < args.batch; ++i) {
    if (args.counts[i] < 0) return FERRULE_BAD_VALUE;
  }
  return check_sizes(args.sizes, args.batch * args.tokens);
}

template <typename Args>
ferrule_status check_rows(const Args& args, size_t input_rows, size_t output_rows) {
  if (!args.input || !args.plan || !args.output || args.left == 0) return FERRULE_BAD_SHAPE;
  if (args.input_stride < args.width || args.output_stride < args.width) return FERRULE_BAD_LAYOUT;
  if (args.left > INT32_MAX || !ferrule::ops::fits(args.batch, args.tokens, sizeof(float)) ||
      !ferrule::ops::fits(args.batch, args.left, sizeof(float)) ||
      !reaches(args.batch, args.input_batch_stride, input_rows, args.input_stride, args.width) ||
      !reaches(args.batch, args.output_batch_stride, output_rows, args.output_stride, args.width)) {
    return FERRULE_TOO_LARGE;
  }
  if (args.batch > 1 && args.output_batch_stride < (output_rows - 1) * args.output_stride + args.width) {
    return FERRULE_BAD_LAYOUT;
  }
  return check_plan(args.plan, args.batch * args.tokens, args.left);
}

template <typename Args>
bool is_empty(const Args& args) {
  return args.batch == 0 || args.tokens == 0 || args.width == 0;
}

}  // namespace

size_t ferrule_token_match_scratch(const ferrule_token_match_args* args, size_t threads) {
  size_t cells = 0;
  if (args->tokens > INT32_MAX ||
      __builtin_mul_overflow(args->tokens + kColumnMultiple, args->width, &cells) ||
      cells > PTRDIFF_MAX / 64) {
    return 0;
  }
  const MatchLayout layout = lay_out(*args);
  const size_t floats = layout.means + layout.columns * (args->width + kTileRows + 1) + 5 * layout.sides;
  size_t bytes = 0;
  return __builtin_mul_overflow(floats * sizeof(float), threads, &bytes) ? 0 : bytes;
}

ferrule_status ferrule_token_match(const ferrule_token_match_args* args, const char* isa, ferrule_pool* pool,
                                   void* scratch) {
  if (const ferrule_status status = check(*args, scratch)) return status;
  auto* kernel = ferrule::ops::find<ferrule_token_match_fn>("token_match", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args->batch == 0 || args->tokens == 0) return FERRULE_OK;
  ferrule::ops::run(kernel, *args, args->batch, args->batch, pool, scratch,
                    ferrule_token_match_scratch(args, 1));
  return FERRULE_OK;
}

ferrule_status ferrule_token_merge(const ferrule_token_merge_args* args, const char* isa,
                                   ferrule_pool* pool) {
  if (!is_empty(*args)) {
    if (const ferrule_status status = check_rows(*args, args->tokens, args->left)) return status;
    if (const ferrule_status status = check_sizes(args->sizes, args->batch * args->tokens)) return status;
  }
  auto* kernel = ferrule::ops::find<ferrule_token_merge_fn>("token_merge", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (is_empty(*args)) return FERRULE_OK;
  const size_t units =
      args->batch * (args->left / FERRULE_MERGE_TOKENS + (args->left % FERRULE_MERGE_TOKENS != 0));
  const size_t smallest = kSmallestTask / FERRULE_MERGE_TOKENS / args->width + 1;
  ferrule::ops::run(kernel, *args, units, ferrule::ops::choose_tasks(units, smallest, pool), pool);
  return FERRULE_OK;
}

ferrule_status ferrule_token_unmerge(const ferrule_token_unmerge_args* args, const char* isa,
                                     ferrule_pool* pool) {
  if (!is_empty(*args)) {
    if (const ferrule_status status = check_rows(*args, args->left, args->tokens)) return status;
  }
  auto* kernel = ferrule::ops::find<ferrule_token_unmerge_fn>("token_unmerge", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (is_empty(*args)) return FERRULE_OK;
  const size_t units = args->batch * args->tokens;
  const size_t tasks = ferrule::ops::choose_tasks(units, kSmallestTask / args->width + 1, pool);
  ferrule::ops::run(kernel, *args, units, tasks, pool);
  return FERRULE_OK;
}
