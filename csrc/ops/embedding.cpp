#include "ferrule/embedding.h"

#include <math.h>

#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 16384;  // elements

bool is_affine(const ferrule_embedding_args& args) {
  return args.kind == FERRULE_EMBEDDING_I8 || args.kind == FERRULE_EMBEDDING_I4;
}

bool has_palettes(const ferrule_embedding_args& args) {
  return args.kind == FERRULE_EMBEDDING_LUT4 || args.kind == FERRULE_EMBEDDING_LUT2;
}

template <typename Index>
bool lie_within(const void* indices, size_t count, size_t rows) {
  const auto* values = static_cast<const Index*>(indices);
  bool within = true;
  // A negative index is a huge unsigned one.
  for (size_t n = 0; n < count; ++n) within &= static_cast<uint64_t>(static_cast<int64_t>(values[n])) < rows;
  return within;
}

ferrule_status check(const ferrule_embedding_args& args) {
  if (args.kind < FERRULE_EMBEDDING_F32 || args.kind > FERRULE_EMBEDDING_LUT2) return FERRULE_BAD_TYPE;
  if (args.index_bytes != 4 && args.index_bytes != 8) return FERRULE_BAD_TYPE;
  if (!isfinite(args.output_scale)) return FERRULE_BAD_VALUE;
  if (args.count == 0 || args.width == 0) return FERRULE_OK;
  if (!args.table || !args.indices || !args.output) return FERRULE_BAD_SHAPE;
  if (is_affine(args) && !args.scales) return FERRULE_BAD_SHAPE;
  if (has_palettes(args) && !args.palettes) return FERRULE_BAD_SHAPE;
  if (is_affine(args) && args.group % 16 != 0) return FERRULE_BAD_LAYOUT;
  if (args.output_stride < args.width) return FERRULE_BAD_LAYOUT;
  if (!ferrule::ops::fits(args.count, args.output_stride, sizeof(float))) return FERRULE_TOO_LARGE;
  if (!ferrule::ops::fits(args.rows, args.width, sizeof(float))) return FERRULE_TOO_LARGE;
  const bool within = args.index_bytes == 4 ? lie_within<int32_t>(args.indices, args.count, args.rows)
                                            : lie_within<int64_t>(args.indices, args.count, args.rows);
  return within ? FERRULE_OK : FERRULE_BAD_VALUE;
}

}  // namespace

ferrule_status ferrule_embedding(const ferrule_embedding_args* args, const char* isa, ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_embedding_fn>("embedding", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args->count == 0 || args->width == 0) return FERRULE_OK;
  const size_t tasks = ferrule::ops::choose_tasks(args->count, kSmallestTask / args->width + 1, pool);
  ferrule::ops::run(kernel, *args, args->count, tasks, pool);
  return FERRULE_OK;
}
