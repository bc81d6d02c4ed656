#include "ferrule/attention.h"

#include <math.h>

#include <initializer_list>

#include "ferrule/arena.h"
#include "kernels/attention/layout.h"
#include "ops/attention.h"
#include "ops/run.h"

namespace {

using ferrule::ops::fits;

constexpr size_t kMostQueryBlock = 256, kLeastQueryBlock = 32;  // queries of a prefill unit
constexpr size_t kMostDecodeRows = 12;                          // beyond, packing the keys pays
constexpr size_t kLeastSlice = 256;  // keys, below which combining the slices costs more than it gains

// Whether some memory reaches from 0 to the last element of [a][b][c][width] with these strides.
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
  return fits(total, 1, size);
}

ferrule_status check_kv(const ferrule_kv& kv, const ferrule_attention_args& args) {
  if (kv.kind < FERRULE_KV_F32 || kv.kind > FERRULE_KV_I2) return FERRULE_BAD_TYPE;
  if (!kv.data) return FERRULE_BAD_SHAPE;
  const bool is_float = kv.kind == FERRULE_KV_F32;
  const size_t row = is_float ? args.head_size : plane_size(kv.kind, args.head_size);
  if (kv.token_stride < row && args.key_count > 1) return FERRULE_BAD_LAYOUT;
  if (!reaches(args.batch, kv.batch_stride, args.kv_heads, kv.head_stride, args.key_count, kv.token_stride,
               row, is_float ? sizeof(float) : 1)) {
    return FERRULE_TOO_LARGE;
  }
  if (is_float) return FERRULE_OK;
  if (!kv.scales || (!kv.offsets && kv.kind != FERRULE_KV_I8)) return FERRULE_BAD_SHAPE;
  if (kv.group % 16 != 0) return FERRULE_BAD_LAYOUT;
  const size_t group = group_size(kv, args.head_size), groups = (args.head_size + group - 1) / group;
  if (kv.scale_token_stride < groups && args.key_count > 1) return FERRULE_BAD_LAYOUT;
  return reaches(args.batch, kv.scale_batch_stride, args.kv_heads, kv.scale_head_stride, args.key_count,
                 kv.scale_token_stride, groups, sizeof(float))
             ? FERRULE_OK
             : FERRULE_TOO_LARGE;
}

ferrule_status check_padding(const ferrule_attention_args& args) {
  for (const int32_t* bounds : {args.key_begins, args.key_ends}) {
    for (size_t b = 0; bounds && b < args.batch; ++b) {
      if (bounds[b] < 0 || static_cast<size_t>(bounds[b]) > args.key_count) return FERRULE_BAD_VALUE;
    }
  }
  return FERRULE_OK;
}

}  // namespace

namespace ferrule::ops {

bool is_empty(const ferrule_attention_args& args) {
  return args.batch == 0 || args.query_heads == 0 || args.query_count == 0 || args.head_size == 0;
}

ferrule_status check_attention(const ferrule_attention_args& args) {
  if (is_empty(args)) return FERRULE_OK;
  if (!args.queries || !args.output || args.kv_heads == 0 || args.query_heads % args.kv_heads != 0)
    return FERRULE_BAD_SHAPE;
  if (!isfinite(args.scale)) return FERRULE_BAD_VALUE;
  if (args.query_count > 1 && (args.query_stride < args.head_size || args.output_stride < args.head_size)) {
    return FERRULE_BAD_LAYOUT;
  }
  size_t sum = 0;
  if (__builtin_add_overflow(args.query_count, args.key_count, &sum) || sum > PTRDIFF_MAX ||
      !reaches(args.batch, args.query_batch_stride, args.query_heads, args.query_head_stride,
               args.query_count, args.query_stride, args.head_size, sizeof(float)) ||
      !reaches(args.batch, args.output_batch_stride, args.query_heads, args.output_head_stride,
               args.query_count, args.output_stride, args.head_size, sizeof(float))) {
    return FERRULE_TOO_LARGE;
  }
  if (const ferrule_status status = check_padding(args)) return status;
  if (args.key_count == 0) return FERRULE_OK;
  if (args.bias && !reaches(args.batch, args.bias_batch_stride, args.query_heads, args.bias_head_stride,
                            args.query_count, args.bias_query_stride, 1, sizeof(float))) {
    return FERRULE_TOO_LARGE;
  }
  if (const ferrule_status status = check_kv(args.keys, args)) return status;
  return check_kv(args.values, args);
}

}  // namespace ferrule::ops

namespace {

using ferrule::ops::check_attention;
using ferrule::ops::is_empty;

// How the work of a call is divided over threads.
struct Plan {
  bool decodes;
  size_t query_block, slices, units;
  size_t thread_bytes, partial_bytes;
};

bool choose_plan(const ferrule_attention_args& args, size_t threads, Plan* plan) {
  const size_t rows = args.query_heads / args.kv_heads * args.query_count,
               heads = args.batch * args.query_heads;
  *plan = {rows <= kMostDecodeRows, 0, 1, 0, 0, 0};
  if (plan->decodes) {
    const size_t units = args.batch * args.kv_heads;
    const size_t wanted = threads == 1 ? 1 : (4 * threads + units - 1) / units;
    plan->slices = larger(1, smaller(wanted, args.key_count / kLeastSlice));
    plan->units = units * plan->slices;
    size_t partials = 0;
    if (plan->slices > 1 && (__builtin_mul_overflow(plan->units * rows, args.head_size + 2, &partials) ||
                             !fits(partials, 1, sizeof(float)))) {
      return false;
    }
    plan->partial_bytes = round_up(partials * sizeof(float), FERRULE_ALIGNMENT);
  } else {
    // At least four units a thread, where that leaves blocks that are worth packing keys for; all of about
    // one size.
    const size_t wanted = threads == 1 ? 1 : (4 * threads + heads - 1) / heads;
    const size_t most = args.query_count / kLeastQueryBlock + 1;
    const size_t blocks =
        larger(args.query_count / kMostQueryBlock + (args.query_count % kMostQueryBlock != 0),
               smaller(wanted, most));
    plan->query_block = args.query_count / blocks + (args.query_count % blocks != 0);
    plan->units = heads * ((args.query_count + plan->query_block - 1) / plan->query_block);
  }
  const size_t unit_rows = plan->decodes ? rows : plan->query_block;
  if (!fits(unit_rows + 32 + 3 * kKeyBlock, 4 * (args.head_size + 32), sizeof(float))) return false;
  plan->thread_bytes =
      round_up(workspace_floats(unit_rows, args.head_size) * sizeof(float), FERRULE_ALIGNMENT);
  return fits(plan->thread_bytes, threads, 1) &&
         fits(plan->partial_bytes + plan->thread_bytes * threads, 1, 1);
}

// Joins the slices of one row: each counts by 2^(its base - the greatest).
void combine_row(const ferrule_attention_args& args, const Row& row, const float* partials, size_t stride) {
  float max = -INFINITY, total = 0;
  for (size_t s = 0; s < args.slices; ++s) max = fmaxf(max, partials[s * stride]);
  float* output = args.output + row.batch * args.output_batch_stride + row.head * args.output_head_stride +
                  row.query * args.output_stride;
  for (size_t c = 0; c < args.head_size; ++c) output[c] = 0;
  for (size_t s = 0; s < args.slices; ++s) {
    const float* partial = partials + s * stride;
    if (partial[1] == 0) continue;
    const float weight = exp2f(partial[0] - max);
    total += weight * partial[1];
    for (size_t c = 0; c < args.head_size; ++c) output[c] += weight * partial[2 + c];
  }
  for (size_t c = 0; c < args.head_size && total != 0; ++c) output[c] /= total;
  if (!args.log_sums) return;
  args.log_sums[(row.batch * args.query_heads + row.head) * args.query_count + row.query] =
      total == 0 ? -INFINITY : max * 0.693147181f + logf(total);
}

void combine_slices(const ferrule_attention_args& args) {
  const size_t group = args.query_heads / args.kv_heads, rows = group * args.query_count,
               size = args.head_size + 2;
  for (size_t head = 0; head < args.batch * args.kv_heads; ++head) {
    for (size_t r = 0; r < rows; ++r) {
      const Row row = {head / args.kv_heads, head % args.kv_heads * group + r / args.query_count,
                       r % args.query_count};
      combine_row(args, row, args.partials + (head * args.slices * rows + r) * size, rows * size);
    }
  }
}

}  // namespace

size_t ferrule_attention_scratch(const ferrule_attention_args* args, size_t threads) {
  Plan plan;
  if (check_attention(*args) || is_empty(*args) || threads == 0 || !choose_plan(*args, threads, &plan))
    return 0;
  return plan.partial_bytes + threads * plan.thread_bytes;
}

ferrule_status ferrule_attention(const ferrule_attention_args* args, const char* isa, ferrule_pool* pool,
                                 void* scratch, size_t scratch_bytes) {
  if (const ferrule_status status = check_attention(*args)) return status;
  const size_t threads = ferrule_pool_threads(pool);
  Plan plan = {};
  if (!is_empty(*args) && !choose_plan(*args, threads, &plan)) return FERRULE_TOO_LARGE;
  auto* kernel =
      ferrule::ops::find<ferrule_attention_fn>(plan.decodes ? "attention_decode" : "attention_prefill", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (is_empty(*args)) return FERRULE_OK;
  if (!scratch || scratch_bytes < plan.partial_bytes + threads * plan.thread_bytes) return FERRULE_BAD_SHAPE;
  if (reinterpret_cast<uintptr_t>(scratch) % FERRULE_ALIGNMENT != 0) return FERRULE_BAD_LAYOUT;

  ferrule_attention_args divided = *args;
  divided.query_block = plan.query_block;
  divided.slices = plan.slices;
  divided.partials = static_cast<float*>(scratch);
  if (args->key_count == 0) divided.keys = divided.values = {};
  ferrule::ops::run(kernel, divided, plan.units, plan.units, pool,
                    static_cast<char*>(scratch) + plan.partial_bytes, plan.thread_bytes);
  if (plan.decodes && plan.slices > 1) combine_slices(divided);
  return FERRULE_OK;
}
