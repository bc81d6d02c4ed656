#include "ferrule/pooling_i8.h"

#include "ops/run.h"
#include "ops/window.h"

namespace {

constexpr size_t kSmallestTask = 131072;  // elements read
constexpr size_t kMostTaps = 32768;       // sums stay exact in float

ferrule_status check(const ferrule_pooling_i8_args& args) {
  const ferrule_window& w = args.window;
  if (args.kind != FERRULE_POOLING_MAX && args.kind != FERRULE_POOLING_AVERAGE) return FERRULE_BAD_TYPE;
  if (const ferrule_status status = ferrule::ops::check_window(w)) return status;
  if (const ferrule_status status = ferrule::ops::check_padding(args.pad_bottom, args.pad_right))
    return status;
  if (args.kind == FERRULE_POOLING_AVERAGE) {
    if (w.dilation_height != 1 || w.dilation_width != 1) return FERRULE_BAD_SHAPE;
    if (args.padding_code < -128 || args.padding_code > 127) return FERRULE_BAD_VALUE;
  }
  size_t taps = 0;
  if (__builtin_mul_overflow(w.kernel_height, w.kernel_width, &taps) || taps > kMostTaps)
    return FERRULE_TOO_LARGE;
  const ferrule_status input =
      ferrule::ops::check_images(w.batch, w.in_height, w.in_width, args.channels, args.input_stride, 1);
  if (input) return input;
  return ferrule::ops::check_images(w.batch, w.out_height, w.out_width, args.channels, args.output_stride, 1);
}

}  // namespace

ferrule_status ferrule_pooling_i8(const ferrule_pooling_i8_args* args, const char* isa, ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_pooling_i8_fn>("pooling_i8", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  const ferrule_window& w = args->window;
  const size_t units = w.batch * w.out_height;
  if (units == 0 || w.out_width == 0 || args->channels == 0) return FERRULE_OK;
  const bool has_input = w.in_height > 0 && w.in_width > 0;
  if (!args->output || (has_input && !args->input)) return FERRULE_BAD_SHAPE;
  const size_t smallest = ferrule::ops::share_of_task(kSmallestTask, w, args->channels);
  ferrule::ops::run(kernel, *args, units, ferrule::ops::choose_tasks(units, smallest, pool), pool);
  return FERRULE_OK;
}
