#include "ferrule/pooling.h"

#include "ops/run.h"
#include "ops/window.h"

namespace {

constexpr size_t kSmallestTask = 65536;  // elements read

ferrule_status check_kinds(const ferrule_pooling_args& args) {
  if (args.kind != FERRULE_POOLING_MAX && args.kind != FERRULE_POOLING_AVERAGE) return FERRULE_BAD_TYPE;
  if (args.layout != FERRULE_CHANNELS_LAST && args.layout != FERRULE_CHANNELS_FIRST) return FERRULE_BAD_TYPE;
  const bool dilated = args.window.dilation_height != 1 || args.window.dilation_width != 1;
  return args.kind == FERRULE_POOLING_AVERAGE && dilated ? FERRULE_BAD_SHAPE : FERRULE_OK;
}

ferrule_status check(const ferrule_pooling_args& args) {
  const ferrule_window& w = args.window;
  if (const ferrule_status status = check_kinds(args)) return status;
  if (const ferrule_status status = ferrule::ops::check_window(w)) return status;
  if (const ferrule_status status = ferrule::ops::check_padding(args.pad_bottom, args.pad_right))
    return status;
  const bool last = args.layout == FERRULE_CHANNELS_LAST;
  const ferrule_status input =
      ferrule::ops::check_images(w.batch, w.in_height, w.in_width, args.channels,
                                 last ? args.input_stride : args.channels, sizeof(float));
  if (input) return input;
  return ferrule::ops::check_images(w.batch, w.out_height, w.out_width, args.channels,
                                    last ? args.output_stride : args.channels, sizeof(float));
}

}  // namespace

ferrule_status ferrule_pooling(const ferrule_pooling_args* args, const char* isa, ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_pooling_fn>("pooling", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  const ferrule_window& w = args->window;
  if (w.batch == 0 || w.out_height == 0 || w.out_width == 0 || args->channels == 0) return FERRULE_OK;
  const bool has_input = w.in_height > 0 && w.in_width > 0;
  if (!args->output || (has_input && !args->input)) return FERRULE_BAD_SHAPE;
  const bool last = args->layout == FERRULE_CHANNELS_LAST;
  const size_t units = w.batch * w.out_height * (last ? 1 : args->channels);
  const size_t smallest = ferrule::ops::share_of_task(kSmallestTask, w, last ? args->channels : 1);
  ferrule::ops::run(kernel, *args, units, ferrule::ops::choose_tasks(units, smallest, pool), pool);
  return FERRULE_OK;
}

size_t ferrule_pooling_outputs(size_t input, size_t kernel, size_t stride, size_t dilation, size_t pad_before,
                               size_t pad_after, int ceil_mode) {
  size_t padding = 0, extra = 0;
  if (__builtin_add_overflow(pad_before, pad_after, &padding)) return 0;
  if (!ceil_mode) return ferrule_window_outputs(input, kernel, stride, dilation, padding);
  if (stride == 0 || __builtin_add_overflow(padding, stride - 1, &extra)) return 0;
  const size_t outputs = ferrule_window_outputs(input, kernel, stride, dilation, extra);
  if (outputs == 0) return 0;
  const bool begins_inside = (outputs - 1) * stride < input + pad_before;
  return begins_inside ? outputs : outputs - 1;
}
