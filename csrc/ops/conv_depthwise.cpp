#include "ferrule/conv_depthwise.h"

#include "ops/run.h"
#include "ops/window.h"

namespace {

constexpr size_t kSmallestTask = 65536;  // products

ferrule_status check(const ferrule_conv_depthwise_args& args) {
  const ferrule_window& w = args.window;
  if (args.activation < FERRULE_ACTIVATION_NONE || args.activation > FERRULE_ACTIVATION_HARD_SWISH) {
    return FERRULE_BAD_TYPE;
  }
  if (const ferrule_status status = ferrule::ops::check_window(w)) return status;
  const ferrule_status statuses[] = {
      ferrule::ops::check_images(w.batch, w.in_height, w.in_width, args.channels, args.input_stride,
                                 sizeof(float)),
      ferrule::ops::check_images(w.batch, w.out_height, w.out_width, args.channels, args.output_stride,
                                 sizeof(float)),
      ferrule::ops::check_images(w.batch, w.out_height, w.out_width, args.channels,
                                 args.residual ? args.residual_stride : args.channels, sizeof(float)),
      ferrule::ops::check_images(1, w.kernel_height, w.kernel_width, args.channels, args.channels,
                                 sizeof(float))};
  for (const ferrule_status status : statuses) {
    if (status) return status;
  }
  return FERRULE_OK;
}

}  // namespace

ferrule_status ferrule_conv_depthwise(const ferrule_conv_depthwise_args* args, const char* isa,
                                      ferrule_pool* pool) {
  if (const ferrule_status status = check(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_conv_depthwise_fn>("conv_depthwise", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  const ferrule_window& w = args->window;
  const size_t row = w.out_width * args->channels;
  if (w.batch * w.out_height == 0 || row == 0) return FERRULE_OK;
  const bool has_input = w.in_height > 0 && w.in_width > 0;
  if (!args->weight || !args->output || (has_input && !args->input)) return FERRULE_BAD_SHAPE;
  const size_t smallest = kSmallestTask / (row * w.kernel_height * w.kernel_width) + 1;
  const size_t tasks = ferrule::ops::choose_tasks(w.batch * w.out_height, smallest, pool);
  ferrule::ops::run(kernel, *args, w.batch * w.out_height, tasks, pool);
  return FERRULE_OK;
}
