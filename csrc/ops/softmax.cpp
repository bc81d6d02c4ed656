#include "ferrule/softmax.h"

#include <math.h>

#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 8192;  // elements

ferrule_status check(const ferrule_softmax_args& args) {
  if (args.rows == 0 || args.width == 0) return FERRULE_OK;
  if (!args.input || !args.output) return FERRULE_BAD_SHAPE;
  if (!isfinite(args.scale) || args.scale <= 0) return FERRULE_BAD_VALUE;
  const size_t strides[] = {args.input_stride, args.output_stride,
                            args.mask && args.mask_stride ? args.mask_stride : args.width};
  for (const size_t stride : strides) {
    if (stride < args.width) return FERRULE_BAD_LAYOUT;
    if (!ferrule::ops::fits(args.rows, stride, sizeof(float))) return FERRULE_TOO_LARGE;
  }
  return FERRULE_OK;
}

}  // namespace

ferrule_status ferrule_softmax(const ferrule_softmax_args* args, const char* isa, ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_softmax_fn>("softmax", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args->rows == 0 || args->width == 0) return FERRULE_OK;
  const size_t tasks = ferrule::ops::choose_tasks(args->rows, kSmallestTask / args->width + 1, pool);
  ferrule::ops::run(kernel, *args, args->rows, tasks, pool);
  return FERRULE_OK;
}
