#include "ferrule/rational.h"

#include "ops/run.h"

namespace {

constexpr size_t kSmallestTask = 16384;  // elements

bool is_stride(size_t stride, size_t coefficients) { return stride == 0 || stride >= coefficients; }

ferrule_status check(const ferrule_rational_args& args) {
  if (args.form != FERRULE_RATIONAL_TERMS && args.form != FERRULE_RATIONAL_SUM) return FERRULE_BAD_TYPE;
  if (args.rows == 0 || args.width == 0) return FERRULE_OK;
  if (args.groups == 0 || args.width % args.groups != 0) return FERRULE_BAD_SHAPE;
  if (!args.input || !args.output || !args.numerator || !args.denominator) return FERRULE_BAD_SHAPE;
  if (args.input_stride < args.width || args.output_stride < args.width) return FERRULE_BAD_LAYOUT;
  if (!is_stride(args.numerator_stride, FERRULE_RATIONAL_NUMERATOR)) return FERRULE_BAD_LAYOUT;
  if (!is_stride(args.denominator_stride, FERRULE_RATIONAL_DENOMINATOR)) return FERRULE_BAD_LAYOUT;
  if (!ferrule::ops::fits(args.rows, args.input_stride, sizeof(float)) ||
      !ferrule::ops::fits(args.rows, args.output_stride, sizeof(float)) ||
      !ferrule::ops::fits(args.groups, args.numerator_stride, sizeof(float)) ||
      !ferrule::ops::fits(args.groups, args.denominator_stride, sizeof(float))) {
    return FERRULE_TOO_LARGE;
  }
  return FERRULE_OK;
}

}  // namespace

ferrule_status ferrule_rational(const ferrule_rational_args* args, const char* isa, ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_rational_fn>("rational", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (args->rows == 0 || args->width == 0) return FERRULE_OK;
  const size_t tasks = ferrule::ops::choose_tasks(args->rows, kSmallestTask / args->width + 1, pool);
  ferrule::ops::run(kernel, *args, args->rows, tasks, pool);
  return FERRULE_OK;
}
