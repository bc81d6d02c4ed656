#include "ferrule/activate.h"

#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 8192;  // elements

ferrule_status check(const ferrule_activate_args& args) {
  if (args.kind < FERRULE_ACTIVATE_RELU || args.kind > FERRULE_ACTIVATE_EXP) return FERRULE_BAD_TYPE;
  if (args.rows == 0 || args.width == 0) return FERRULE_OK;
  if (!args.input || !args.output) return FERRULE_BAD_SHAPE;
  const size_t strides[] = {args.input_stride, args.output_stride,
                            args.factor ? args.factor_stride : args.width};
  for (const size_t stride : strides) {
    if (stride < args.width) return FERRULE_BAD_LAYOUT;
    if (!ferrule::ops::fits(args.rows, stride, sizeof(float))) return FERRULE_TOO_LARGE;
  }
  return FERRULE_OK;
}

bool contiguous(const ferrule_activate_args& args) {
  return args.input_stride == args.width && args.output_stride == args.width &&
         (!args.factor || args.factor_stride == args.width);
}

}  // namespace

ferrule_status ferrule_activate(const ferrule_activate_args* args, const char* isa, ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_activate_fn>("activate", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args->rows == 0 || args->width == 0) return FERRULE_OK;
  ferrule_activate_args whole = *args;
  if (contiguous(*args)) {
    whole.width *= whole.rows;
    whole.rows = 1;
  }
  const size_t blocks = whole.width / FERRULE_ACTIVATE_BLOCK + (whole.width % FERRULE_ACTIVATE_BLOCK != 0);
  const size_t unit = whole.width < FERRULE_ACTIVATE_BLOCK ? whole.width : FERRULE_ACTIVATE_BLOCK;
  const size_t units = whole.rows * blocks;
  ferrule::ops::run(kernel, whole, units, ferrule::ops::choose_tasks(units, kSmallestTask / unit + 1, pool),
                    pool);
  return FERRULE_OK;
}
