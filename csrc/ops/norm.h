// What the norms share: their arguments have the same rows, widths and strides.
#ifndef FERRULE_OPS_NORM_H
#define FERRULE_OPS_NORM_H

#include <math.h>

#include "ops/run.h"

namespace ferrule::ops {

constexpr size_t kSmallestNormTask = 8192;  // elements

template <typename Args>
ferrule_status check_norm(const Args& args) {
  if (args.rows == 0 || args.width == 0) return FERRULE_OK;
  if (!args.input || !args.output) return FERRULE_BAD_SHAPE;
  if (!isfinite(args.epsilon) || args.epsilon < 0) return FERRULE_BAD_VALUE;
  const size_t strides[] = {args.input_stride, args.output_stride,
                            args.residual ? args.residual_stride : args.width,
                            args.sum ? args.sum_stride : args.width};
  for (const size_t stride : strides) {
    if (stride < args.width) return FERRULE_BAD_LAYOUT;
    if (!fits(args.rows, stride, sizeof(float))) return FERRULE_TOO_LARGE;
  }
  return FERRULE_OK;
}

// Checks the arguments and runs the kernel of `op` over the rows.
template <typename Fn, typename Args>
ferrule_status run_norm(const char* op, const Args& args, const char* isa, ferrule_pool* pool) {
  if (const ferrule_status status = check_norm(args)) return status;
  Fn* kernel = find<Fn>(op, isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args.rows == 0 || args.width == 0) return FERRULE_OK;
  run(kernel, args, args.rows, choose_tasks(args.rows, kSmallestNormTask / args.width + 1, pool), pool);
  return FERRULE_OK;
}

}  // namespace ferrule::ops

#endif
