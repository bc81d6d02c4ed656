#include "ferrule/rms_norm.h"

#include <math.h>

#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 16384;  // elements

ferrule_status check(const ferrule_rms_norm_args& args) {
  if (args.rows == 0 || args.width == 0) return FERRULE_OK;
  if (!args.input || !args.output) return FERRULE_BAD_SHAPE;
  if (!isfinite(args.epsilon) || args.epsilon < 0) return FERRULE_BAD_VALUE;
  const size_t strides[] = {args.input_stride, args.output_stride,
                            args.residual ? args.residual_stride : args.width,
                            args.sum ? args.sum_stride : args.width};
  for (const size_t stride : strides) {
    if (stride < args.width) return FERRULE_BAD_LAYOUT;
    if (!ferrule::ops::fits(args.rows, stride, sizeof(float))) return FERRULE_TOO_LARGE;
  }
  return FERRULE_OK;
}

}  // namespace

ferrule_status ferrule_rms_norm(const ferrule_rms_norm_args* args, const char* isa, ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_rms_norm_fn>("rms_norm", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args->rows == 0 || args->width == 0) return FERRULE_OK;
  const size_t grain = ferrule::ops::choose_grain(args->rows, kSmallestTask / args->width + 1, pool);
  ferrule::ops::run(kernel, *args, args->rows, grain, pool);
  return FERRULE_OK;
}
