#include "ferrule/quantize_rows.h"

#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 8192;  // elements
// Scales whose reciprocal is an ordinary number.
constexpr float kSmallestScale = 1e-30f, kLargestScale = 1e30f;

ferrule_status check(const ferrule_quantize_rows_args& args) {
  if (args.rows == 0) return FERRULE_OK;
  if (!args.codes || !args.scales || !args.zeros || (!args.input && args.width)) return FERRULE_BAD_SHAPE;
  if (args.padded < args.width) return FERRULE_BAD_SHAPE;
  if (args.input_stride < args.width || args.codes_stride < args.padded) return FERRULE_BAD_LAYOUT;
  if (args.range_scale != 0 && !(args.range_scale >= kSmallestScale && args.range_scale <= kLargestScale)) {
    return FERRULE_BAD_VALUE;
  }
  if (args.range_zero < -128 || args.range_zero > 127) return FERRULE_BAD_VALUE;
  if (!ferrule::ops::fits(args.rows, args.input_stride, sizeof(float))) return FERRULE_TOO_LARGE;
  if (!ferrule::ops::fits(args.rows, args.codes_stride, 1)) return FERRULE_TOO_LARGE;
  return FERRULE_OK;
}

}  // namespace

ferrule_status ferrule_quantize_rows(const ferrule_quantize_rows_args* args, const char* isa,
                                     ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_quantize_rows_fn>("quantize_rows", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args->rows == 0) return FERRULE_OK;
  const size_t tasks = ferrule::ops::choose_tasks(args->rows, kSmallestTask / (args->padded + 1) + 1, pool);
  ferrule::ops::run(kernel, *args, args->rows, tasks, pool);
  return FERRULE_OK;
}
