#include "ferrule/selective_scan.h"

#include "ferrule/arena.h"
#include "ops/run.h"

namespace {

constexpr double kSmallestTask = 4096;  // exponentials

// Whether the last element of an array, at the sum of (count - 1) * stride, can be addressed.
template <size_t kAxes>
bool reaches(const size_t (&counts)[kAxes], const size_t (&strides)[kAxes]) {
  size_t last = 0;
  for (size_t axis = 0; axis < kAxes; ++axis) {
    size_t far = 0;
    if (__builtin_mul_overflow(counts[axis] - 1, strides[axis], &far) ||
        __builtin_add_overflow(last, far, &last)) {
      return false;
    }
  }
  return last < PTRDIFF_MAX / sizeof(float);
}

bool reaches(const ferrule_selective_scan_args& args, const ferrule_scan_strides& strides) {
  return reaches<3>({args.batch, args.length, args.channels}, {strides.batch, strides.step, strides.channel});
}

bool reaches(const ferrule_selective_scan_args& args, const ferrule_scan_group_strides& strides) {
  return reaches<4>({args.batch, args.groups, args.length, args.states},
                    {strides.batch, strides.group, strides.step, strides.state});
}

// Whether no two results can be written to one place because an axis does not move.
bool is_spread(const ferrule_selective_scan_args& args, const ferrule_scan_strides& strides) {
  return (args.batch == 1 || strides.batch) && (args.length == 1 || strides.step) &&
         (args.channels == 1 || strides.channel);
}

bool is_empty(const ferrule_selective_scan_args& args) { return args.batch == 0 || args.channels == 0; }

ferrule_status check(const ferrule_selective_scan_args& args, const void* scratch) {
  if (is_empty(args)) return FERRULE_OK;
  if (args.groups == 0 || args.channels % args.groups != 0) return FERRULE_BAD_SHAPE;
  if (!args.a && args.states > 0) return FERRULE_BAD_SHAPE;
  size_t rows = 0;
  if (__builtin_mul_overflow(args.batch, args.channels, &rows) ||
      !ferrule::ops::fits(rows, args.states, sizeof(float)) ||
      ferrule_selective_scan_scratch(&args, 1) == 0) {
    return FERRULE_TOO_LARGE;
  }
  if (!scratch) return FERRULE_BAD_SHAPE;
  if (reinterpret_cast<uintptr_t>(scratch) % FERRULE_ALIGNMENT != 0) return FERRULE_BAD_LAYOUT;
  if (args.length == 0) return FERRULE_OK;
  if (!args.input || !args.delta || !args.output) return FERRULE_BAD_SHAPE;
  if (args.states > 0 && (!args.b || !args.c)) return FERRULE_BAD_SHAPE;
  if (!is_spread(args, args.output_strides)) return FERRULE_BAD_LAYOUT;
  const bool fit = reaches(args, args.input_strides) && reaches(args, args.delta_strides) &&
                   reaches(args, args.output_strides) && (!args.gate || reaches(args, args.gate_strides)) &&
                   (args.states == 0 || (reaches(args, args.b_strides) && reaches(args, args.c_strides)));
  return fit ? FERRULE_OK : FERRULE_TOO_LARGE;
}

}  // namespace

size_t ferrule_selective_scan_units(const ferrule_selective_scan_args* args) {
  if (is_empty(*args) || args->groups == 0) return 0;
  const size_t share = args->channels / args->groups;
  return args->batch * args->groups * (share / FERRULE_SCAN_CHANNELS + (share % FERRULE_SCAN_CHANNELS != 0));
}

size_t ferrule_selective_scan_scratch(const ferrule_selective_scan_args* args, size_t threads) {
  const size_t row = 2 * FERRULE_SCAN_CHANNELS * sizeof(float);
  size_t bytes = 0;
  if (__builtin_add_overflow(args->states, size_t{FERRULE_SCAN_STEPS}, &bytes) ||
      __builtin_mul_overflow(bytes, row, &bytes) || __builtin_mul_overflow(bytes, threads, &bytes)) {
    return 0;
  }
  return bytes;
}

ferrule_status ferrule_selective_scan(const ferrule_selective_scan_args* args, const char* isa,
                                      ferrule_pool* pool, void* scratch) {
  if (const ferrule_status status = check(*args, scratch)) return status;
  auto* kernel = ferrule::ops::find<ferrule_selective_scan_fn>("selective_scan", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  if (is_empty(*args)) return FERRULE_OK;
  const size_t units = ferrule_selective_scan_units(args);
  const double work = static_cast<double>(args->states + 1) * static_cast<double>(args->length);
  const auto smallest = static_cast<size_t>(kSmallestTask / (work * FERRULE_SCAN_CHANNELS + 1));
  const size_t tasks = ferrule::ops::choose_tasks(units, smallest + 1, pool);
  ferrule::ops::run(kernel, *args, units, tasks, pool, scratch, ferrule_selective_scan_scratch(args, 1));
  return FERRULE_OK;
}
