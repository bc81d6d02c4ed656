#include "ferrule/quantize_kv.h"

#include <math.h>

#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 4096;  // elements

// Whether [a][b][c][width] with these strides fits an object.
bool reaches(size_t a, size_t a_stride, size_t b, size_t b_stride, size_t c, size_t c_stride, size_t width,
             size_t size) {
  size_t total = width;
  const size_t counts[] = {a, b, c}, strides[] = {a_stride, b_stride, c_stride};
  for (int i = 0; i < 3; ++i) {
    size_t span = 0;
    if (__builtin_mul_overflow(counts[i] - 1, strides[i], &span) ||
        __builtin_add_overflow(total, span, &total))
      return false;
  }
  return ferrule::ops::fits(total, 1, size);
}

bool is_empty(const ferrule_quantize_kv_args& args) {
  return args.batch == 0 || args.heads == 0 || args.tokens == 0 || args.head_size == 0;
}

ferrule_status check(const ferrule_quantize_kv_args& args) {
  if (args.kind != FERRULE_KV_I8 && args.kind != FERRULE_KV_I4 && args.kind != FERRULE_KV_I2)
    return FERRULE_BAD_TYPE;
  if (is_empty(args)) return FERRULE_OK;
  if (!args.input || !args.codes || !args.scales) return FERRULE_BAD_SHAPE;
  if (!args.offsets && args.kind != FERRULE_KV_I8) return FERRULE_BAD_SHAPE;
  if (!(args.clip > 0) || args.clip > 1) return FERRULE_BAD_VALUE;
  if (args.head_size > SIZE_MAX / 8) return FERRULE_TOO_LARGE;
  const size_t bits = args.kind == FERRULE_KV_I8 ? 8 : args.kind == FERRULE_KV_I4 ? 4 : 2;
  const size_t bytes = (args.head_size * bits + 7) / 8;
  const size_t group = args.group && args.group < args.head_size ? args.group : args.head_size;
  const size_t groups = (args.head_size + group - 1) / group;
  if (args.group % 16 != 0) return FERRULE_BAD_LAYOUT;
  if (args.tokens > 1 && (args.input_token_stride < args.head_size || args.code_token_stride < bytes ||
                          args.scale_token_stride < groups)) {
    return FERRULE_BAD_LAYOUT;
  }
  const bool fits = ferrule::ops::fits(args.batch, args.heads, 1) &&
                    ferrule::ops::fits(args.batch * args.heads, args.tokens, 1) &&
                    reaches(args.batch, args.input_batch_stride, args.heads, args.input_head_stride,
                            args.tokens, args.input_token_stride, args.head_size, sizeof(float)) &&
                    reaches(args.batch, args.code_batch_stride, args.heads, args.code_head_stride,
                            args.tokens, args.code_token_stride, bytes, 1) &&
                    reaches(args.batch, args.scale_batch_stride, args.heads, args.scale_head_stride,
                            args.tokens, args.scale_token_stride, groups, sizeof(float));
  return fits ? FERRULE_OK : FERRULE_TOO_LARGE;
}

}  // namespace

ferrule_status ferrule_quantize_kv(const ferrule_quantize_kv_args* args, const char* isa,
                                   ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_quantize_kv_fn>("quantize_kv", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (is_empty(*args)) return FERRULE_OK;
  const size_t rows = args->batch * args->heads * args->tokens;
  const size_t tasks = ferrule::ops::choose_tasks(rows, kSmallestTask / args->head_size + 1, pool);
  ferrule::ops::run(kernel, *args, rows, tasks, pool);
  return FERRULE_OK;
}
