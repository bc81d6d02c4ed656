#include "vendors/ops.h"

#include "ferrule/threads.h"
#include "vendors/run.h"

namespace ferrule::vendors {

namespace {

std::mutex pool_mutex;
std::shared_ptr<ferrule_pool> pool;

constexpr Type kF = Type::kFloat32, kI = Type::kInt32, kU = Type::kUint8;

}  // namespace

const Op kOps[kOpCount] = {
    {"attention_quantized",
     8,
     4,
     1,
     {{"query", kF, false},
      {"key_codes", kU, false},
      {"key_scales", kF, false},
      {"key_offsets", kF, true},
      {"value_codes", kU, false},
      {"value_scales", kF, false},
      {"value_offsets", kF, true},
      {"key_ends", kI, true}},
     {{"bits", false}, {"group", false}, {"scale", true}, {"causal", false}},
     {{"output", kF, false}},
     false,
     shape_attention_quantized,
     run_attention_quantized},
    {"lookup_linear",
     5,
     4,
     1,
     {{"x", kF, false},
      {"codes", kU, false},
      {"scales", kF, false},
      {"table", kF, false},
      {"bias", kF, true}},
     {{"bits", false}, {"group", false}, {"dynamic", false}, {"digest", false}},
     {{"output", kF, false}},
     true,
     shape_lookup_linear,
     run_lookup_linear},
    {"quantize_kv",
     1,
     3,
     3,
     {{"x", kF, false}},
     {{"bits", false}, {"group", false}, {"clip", true}},
     {{"codes", kU, false}, {"scales", kF, false}, {"offsets", kF, false}},
     false,
     shape_quantize_kv,
     run_quantize_kv},
    {"token_match",
     3,
     2,
     2,
     {{"metric", kF, false}, {"sizes", kF, true}, {"counts", kI, true}},
     {{"count", false}, {"protected_tokens", false}},
     {{"plan", kI, false}, {"left", kI, false}},
     false,
     shape_token_match,
     run_token_match},
    {"token_merge",
     3,
     1,
     2,
     {{"x", kF, false}, {"plan", kI, false}, {"sizes", kF, true}},
     {{"left", false}},
     {{"merged", kF, false}, {"merged_sizes", kF, false}},
     false,
     shape_token_merge,
     run_token_merge},
};

void set_threads(size_t threads) {
  const std::lock_guard<std::mutex> lock(pool_mutex);
  if (ferrule_pool_threads(pool.get()) == threads) return;
  pool.reset(threads > 1 ? ferrule_pool_create(threads) : nullptr, ferrule_pool_destroy);
}

std::shared_ptr<ferrule_pool> current_pool() {
  const std::lock_guard<std::mutex> lock(pool_mutex);
  return pool;
}

}  // namespace ferrule::vendors
