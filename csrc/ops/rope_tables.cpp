#include "ferrule/rope_tables.h"

#include <math.h>

#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 512;  // pairs

ferrule_status check(const ferrule_rope_tables_args& args) {
  if (args.rows == 0 || args.half == 0) return FERRULE_OK;
  if (!args.cosines || !args.sines) return FERRULE_BAD_SHAPE;
  if (!isfinite(args.magnitude)) return FERRULE_BAD_VALUE;
  if (!ferrule::ops::fits(args.rows, args.half, sizeof(float))) return FERRULE_TOO_LARGE;
  if (!args.positions && args.first_position > SIZE_MAX - args.rows) return FERRULE_TOO_LARGE;
  if (!args.frequencies) return isfinite(args.theta) && args.theta > 0 ? FERRULE_OK : FERRULE_BAD_VALUE;
  for (size_t i = 0; i < args.half; ++i) {
    if (!isfinite(args.frequencies[i])) return FERRULE_BAD_VALUE;
  }
  return FERRULE_OK;
}

}  // namespace

ferrule_status ferrule_rope_tables(const ferrule_rope_tables_args* args, const char* isa,
                                   ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_rope_tables_fn>("rope_tables", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args->rows == 0 || args->half == 0) return FERRULE_OK;
  const size_t tasks = ferrule::ops::choose_tasks(args->rows, kSmallestTask / args->half + 1, pool);
  ferrule::ops::run(kernel, *args, args->rows, tasks, pool);
  return FERRULE_OK;
}
