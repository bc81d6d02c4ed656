#include "ferrule/hadamard.h"

#include <math.h>

#include "kernels/hadamard/paley.h"
#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 16384;      // elements
constexpr size_t kWidest = size_t{1} << 24;  // elements of a row

ferrule_status check(const ferrule_hadamard_args& args) {
  if (args.rows == 0 || args.width == 0) return FERRULE_OK;
  if (ferrule_hadamard_order(args.width) == 0 || !args.input || !args.output) return FERRULE_BAD_SHAPE;
  if (!isfinite(args.scale)) return FERRULE_BAD_VALUE;
  if (args.input_stride < args.width || args.output_stride < args.width) return FERRULE_BAD_LAYOUT;
  if (!ferrule::ops::fits(args.rows, args.input_stride, sizeof(float)) ||
      !ferrule::ops::fits(args.rows, args.output_stride, sizeof(float))) {
    return FERRULE_TOO_LARGE;
  }
  return FERRULE_OK;
}

}  // namespace

size_t ferrule_hadamard_order(size_t width) { return width > kWidest ? 0 : order_of(width); }

ferrule_status ferrule_hadamard(const ferrule_hadamard_args* args, const char* isa, ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_hadamard_fn>("hadamard", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args->rows == 0 || args->width == 0) return FERRULE_OK;
  const size_t tasks = ferrule::ops::choose_tasks(args->rows, kSmallestTask / args->width + 1, pool);
  ferrule::ops::run(kernel, *args, args->rows, tasks, pool);
  return FERRULE_OK;
}
