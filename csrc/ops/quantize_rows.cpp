#include "ferrule/quantize_rows.h"

#include "ops/run.h"

namespace {

using ferrule::ops::choose_tasks;

constexpr size_t kSmallestTask = 8192;  // elements
constexpr size_t kJoined = 4096;
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

void run_rows(ferrule_quantize_rows_fn* kernel, const ferrule_quantize_rows_args& args, ferrule_pool* pool) {
  const size_t tasks = choose_tasks(args.rows, kSmallestTask / (args.padded + 1) + 1, pool);
  ferrule::ops::run(kernel, args, args.rows, tasks, pool);
}

// Rows of a given range that follow each other without a gap, as fewer long ones: a kernel takes some time
// for each. False where one of them has a NaN, which concerns a row by itself.
bool run_joined(ferrule_quantize_rows_fn* kernel, const ferrule_quantize_rows_args& args, size_t together,
                ferrule_pool* pool) {
  ferrule_quantize_rows_args joined = args;
  joined.rows /= together;
  joined.width = joined.padded = joined.input_stride = joined.codes_stride = together * args.width;
  run_rows(kernel, joined, pool);
  ferrule_quantize_rows_args rest = args;
  const size_t done = joined.rows * together;
  rest.input += done * args.width;
  rest.codes = static_cast<uint8_t*>(args.codes) + done * args.width;
  rest.scales += done;
  rest.zeros += done;
  rest.rows -= done;
  run_rows(kernel, rest, pool);
  const bool whole =
      ferrule::ops::all_equal(args.scales, joined.rows) && ferrule::ops::all_equal(rest.scales, rest.rows);
  const int32_t zero = args.zeros[0];
  for (size_t r = 0; r < args.rows; ++r) args.scales[r] = args.range_scale, args.zeros[r] = zero;
  return whole;
}

}  // namespace

ferrule_status ferrule_quantize_rows(const ferrule_quantize_rows_args* args, const char* isa,
                                     ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_quantize_rows_fn>("quantize_rows", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args->rows == 0) return FERRULE_OK;
  const bool dense = args->input_stride == args->width && args->codes_stride == args->width;
  const size_t together = args->width ? kJoined / args->width : 0;
  const bool joins = dense && args->range_scale != 0 && together > 1 && args->rows >= together;
  if (joins && run_joined(kernel, *args, together, pool)) return FERRULE_OK;
  run_rows(kernel, *args, pool);
  return FERRULE_OK;
}
