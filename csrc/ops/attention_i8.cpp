#include "ferrule/attention_i8.h"

#include <string.h>

#include "ferrule/arena.h"
#include "ferrule/dispatch.h"
#include "kernels/attention_i8/layout.h"
#include "ops/attention.h"
#include "ops/run.h"

namespace {

using ferrule::ops::fits;
using ferrule::ops::is_empty;

constexpr size_t kLeastQueries = 8;  // that share the codes of the keys, below which making them costs more
constexpr size_t kMostHeadSize = 65536;  // of which sums of products stay within int32

ferrule_status check(const ferrule_attention_args& args) {
  if (const ferrule_status status = ferrule::ops::check_attention(args)) return status;
  if (is_empty(args) || args.key_count == 0) return FERRULE_OK;
  if (args.keys.kind != FERRULE_KV_F32 || args.values.kind != FERRULE_KV_F32) return FERRULE_BAD_TYPE;
  if (args.slopes || args.log_sums) return FERRULE_BAD_VALUE;
  if (args.bias && (args.bias_head_stride || args.bias_query_stride)) return FERRULE_BAD_LAYOUT;
  return args.head_size > kMostHeadSize ? FERRULE_TOO_LARGE : FERRULE_OK;
}

// How the work of a call is divided over threads.
struct Plan {
  size_t query_block, units, code_bytes, thread_bytes;
};

bool choose_plan(const ferrule_attention_args& args, size_t threads, Plan* plan) {
  const size_t heads = args.batch * args.query_heads, kv_heads = args.batch * args.kv_heads;
  const size_t tiles = (args.query_count + kTileRows - 1) / kTileRows;
  const size_t wanted = threads == 1 ? 1 : (4 * threads + heads - 1) / heads;
  const size_t blocks = smaller(wanted, tiles);
  plan->query_block = (tiles + blocks - 1) / blocks * kTileRows;
  plan->units = heads * ((args.query_count + plan->query_block - 1) / plan->query_block);
  // Neither padding overflows, since the keys themselves fit memory.
  if (!fits(args.key_count + kPanelKeys, 2 * code_width(args.head_size) + 16, kv_heads)) return false;
  plan->code_bytes = round_up(code_bytes(args.key_count, args.head_size) * kv_heads, FERRULE_ALIGNMENT);
  plan->thread_bytes = round_up(tile_bytes(args.head_size), FERRULE_ALIGNMENT);
  return fits(plan->thread_bytes, threads, 1) && fits(plan->code_bytes + plan->thread_bytes * threads, 1, 1);
}

}  // namespace

int ferrule_attention_i8_pays(const ferrule_attention_args* args, const char* isa) {
  if (!isa && ferrule_active_isa(&isa) != FERRULE_ISA_USABLE) return 0;
  const ferrule_kernel* kernel = ferrule_find_kernel("attention_i8", isa);
  const bool multiplies_codes = kernel && (strcmp(kernel->isa, "scalar") != 0 || strcmp(isa, "scalar") == 0);
  return multiplies_codes && args->kv_heads &&
         args->query_heads / args->kv_heads * args->query_count >= kLeastQueries;
}

size_t ferrule_attention_i8_scratch(const ferrule_attention_args* args, size_t threads) {
  Plan plan;
  if (check(*args) || is_empty(*args) || threads == 0 || !choose_plan(*args, threads, &plan)) return 0;
  return plan.code_bytes + threads * plan.thread_bytes;
}

ferrule_status ferrule_attention_i8(const ferrule_attention_args* args, const char* isa, ferrule_pool* pool,
                                    void* scratch, size_t scratch_bytes) {
  if (const ferrule_status status = check(*args)) return status;
  const size_t threads = ferrule_pool_threads(pool);
  Plan plan = {};
  if (!is_empty(*args) && !choose_plan(*args, threads, &plan)) return FERRULE_TOO_LARGE;
  auto* prepare = ferrule::ops::find<ferrule_attention_fn>("attention_i8_prepare", isa);
  auto* attend = ferrule::ops::find<ferrule_attention_fn>("attention_i8", isa);
  if (!prepare || !attend) return FERRULE_BAD_ISA;
  if (is_empty(*args)) return FERRULE_OK;
  if (!scratch || scratch_bytes < plan.code_bytes + threads * plan.thread_bytes) return FERRULE_BAD_SHAPE;
  if (reinterpret_cast<uintptr_t>(scratch) % FERRULE_ALIGNMENT != 0) return FERRULE_BAD_LAYOUT;

  ferrule_attention_args divided = *args;
  divided.query_block = plan.query_block;
  divided.prepared = scratch;
  char* tiles = static_cast<char*>(scratch) + plan.code_bytes;
  const size_t kv_heads = args->batch * args->kv_heads;
  if (args->key_count != 0)
    ferrule::ops::run(prepare, divided, kv_heads, kv_heads, pool, tiles, plan.thread_bytes);
  else
    divided.keys = divided.values = {};
  ferrule::ops::run(attend, divided, plan.units, plan.units, pool, tiles, plan.thread_bytes);
  return FERRULE_OK;
}
