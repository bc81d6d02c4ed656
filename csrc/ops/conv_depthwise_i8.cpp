#include "ferrule/conv_depthwise_i8.h"

#include <math.h>
#include <string.h>

#include "ferrule/arena.h"
#include "kernels/conv_depthwise_i8/packed.h"
#include "ops/run.h"
#include "ops/window.h"

namespace {

constexpr size_t kSmallestTask = 131072;  // products
constexpr size_t kMostTaps = 65536;       // whose int32 sum cannot overflow

ferrule_status check_weights(size_t kernel_height, size_t kernel_width, size_t channels) {
  size_t taps = 0;
  if (kernel_height == 0 || kernel_width == 0) return FERRULE_BAD_SHAPE;
  if (__builtin_mul_overflow(kernel_height, kernel_width, &taps) || taps > kMostTaps)
    return FERRULE_TOO_LARGE;
  return ferrule::ops::fits(channels, taps + 64, 16) ? FERRULE_OK : FERRULE_TOO_LARGE;
}

bool in_range(int32_t zero, bool is_signed) {
  return is_signed ? zero >= -128 && zero <= 127 : zero >= 0 && zero <= 255;
}

ferrule_status check_values(const ferrule_conv_depthwise_i8_args& args) {
  const ferrule_epilogue& epilogue = args.epilogue;
  if (epilogue.activation < FERRULE_ACTIVATION_NONE || epilogue.activation > FERRULE_ACTIVATION_HARD_SWISH) {
    return FERRULE_BAD_TYPE;
  }
  if (!isfinite(args.input_scale) || args.input_scale <= 0 ||
      !in_range(args.input_zero, args.input_is_signed != 0)) {
    return FERRULE_BAD_VALUE;
  }
  if (epilogue.output_scale == 0) return FERRULE_OK;
  const bool fits =
      isfinite(epilogue.output_scale) && epilogue.output_scale > 0 && in_range(epilogue.output_zero, true);
  return fits ? FERRULE_OK : FERRULE_BAD_VALUE;
}

ferrule_status check_sizes(const ferrule_conv_depthwise_i8_args& args) {
  const ferrule_window& w = args.window;
  if (const ferrule_status status = ferrule::ops::check_window(w)) return status;
  const size_t output_bytes = args.epilogue.output_scale == 0 ? sizeof(float) : 1;
  const ferrule_status statuses[] = {
      check_weights(w.kernel_height, w.kernel_width, args.channels),
      ferrule::ops::check_images(w.batch, w.in_height, w.in_width, args.channels, args.input_stride, 1),
      ferrule::ops::check_images(w.batch, w.out_height, w.out_width, args.channels, args.output_stride,
                                 output_bytes),
      ferrule::ops::check_images(w.batch, w.out_height, w.out_width, args.channels,
                                 args.epilogue.residual ? args.epilogue.residual_stride : args.channels,
                                 sizeof(float)),
      ferrule::ops::fits(w.stride_width + w.dilation_width * w.kernel_width, kStrip * kMostColumnBytes,
                         w.kernel_height + w.kernel_width)
          ? FERRULE_OK
          : FERRULE_TOO_LARGE};
  for (const ferrule_status status : statuses) {
    if (status) return status;
  }
  return FERRULE_OK;
}

ferrule_status check_packed(const ferrule_conv_depthwise_i8_args& args) {
  DepthwiseHeader header = {};
  if (reinterpret_cast<uintptr_t>(args.packed) % FERRULE_ALIGNMENT != 0) return FERRULE_BAD_LAYOUT;
  memcpy(&header, args.packed, sizeof(header));
  const bool fits = header.magic == kDepthwiseMagic && header.version == kDepthwiseVersion &&
                    header.kernel_height == args.window.kernel_height &&
                    header.kernel_width == args.window.kernel_width && header.channels == args.channels;
  return fits ? FERRULE_OK : FERRULE_BAD_PACKED;
}

void pack_channel(const ferrule_conv_depthwise_i8_weights& weights, const DepthwiseLayout& layout,
                  char* packed, size_t c) {
  int32_t sum = 0;
  for (size_t i = 0; i < weights.kernel_height; ++i) {
    for (size_t j = 0; j < weights.kernel_width; ++j) {
      const int8_t code = weights.codes[(i * weights.kernel_width + j) * weights.channels + c];
      sum += code;
      const bool down = layout.shifts == 2;
      for (size_t shift = 0; shift < layout.shifts; ++shift) {
        const size_t along = (down ? i : j) + shift;
        packed[layout.quad(shift, along / 4, down ? j : 0) + c * 4 + along % 4] = static_cast<char>(code);
      }
    }
  }
  const float bias = weights.bias ? weights.bias[c] : 0;
  memcpy(packed + layout.sums + c * sizeof(int32_t), &sum, sizeof(sum));
  memcpy(packed + layout.scales + c * sizeof(float), &weights.scales[c], sizeof(float));
  memcpy(packed + layout.bias + c * sizeof(float), &bias, sizeof(float));
}

}  // namespace

size_t ferrule_conv_depthwise_i8_packed_bytes(size_t kernel_height, size_t kernel_width, size_t channels) {
  if (check_weights(kernel_height, kernel_width, channels)) return 0;
  return lay_out_depthwise(kernel_height, kernel_width, channels).bytes;
}

ferrule_status ferrule_pack_conv_depthwise_i8(const ferrule_conv_depthwise_i8_weights* weights,
                                              void* packed) {
  const ferrule_status status =
      check_weights(weights->kernel_height, weights->kernel_width, weights->channels);
  if (status) return status;
  if (!packed || (weights->channels > 0 && (!weights->codes || !weights->scales))) return FERRULE_BAD_SHAPE;
  if (reinterpret_cast<uintptr_t>(packed) % FERRULE_ALIGNMENT != 0) return FERRULE_BAD_LAYOUT;
  for (size_t c = 0; c < weights->channels; ++c) {
    if (!isfinite(weights->scales[c]) || (weights->bias && !isfinite(weights->bias[c])))
      return FERRULE_BAD_VALUE;
  }
  const DepthwiseLayout layout =
      lay_out_depthwise(weights->kernel_height, weights->kernel_width, weights->channels);
  memset(packed, 0, layout.bytes);
  const DepthwiseHeader header = {kDepthwiseMagic, kDepthwiseVersion, weights->kernel_height,
                                  weights->kernel_width, weights->channels};
  memcpy(packed, &header, sizeof(header));
  for (size_t c = 0; c < weights->channels; ++c)
    pack_channel(*weights, layout, static_cast<char*>(packed), c);
  return FERRULE_OK;
}

size_t ferrule_conv_depthwise_i8_scratch(const ferrule_window* window) {
  const DepthwiseLayout layout = lay_out_depthwise(window->kernel_height, window->kernel_width, 0);
  return layout.groups * count_strip_columns(*window) * kMostColumnBytes;
}

ferrule_status ferrule_conv_depthwise_i8(const ferrule_conv_depthwise_i8_args* args, const char* isa,
                                         void* scratch, ferrule_pool* pool) {
  if (const ferrule_status status = check_values(*args)) return status;
  if (const ferrule_status status = check_sizes(*args)) return status;
  auto* kernel = ferrule::ops::find<ferrule_conv_depthwise_i8_fn>("conv_depthwise_i8", isa);
  if (!kernel) return FERRULE_BAD_ISA;
  const ferrule_window& w = args->window;
  const size_t rows = w.batch * w.out_height, row = w.out_width * args->channels;
  if (rows == 0 || row == 0) return FERRULE_OK;
  const bool has_input = w.in_height > 0 && w.in_width > 0;
  if (!args->packed || !args->output || !scratch || (has_input && !args->input)) return FERRULE_BAD_SHAPE;
  if (reinterpret_cast<uintptr_t>(scratch) % FERRULE_ALIGNMENT != 0) return FERRULE_BAD_LAYOUT;
  if (const ferrule_status status = check_packed(*args)) return status;
  const size_t smallest = kSmallestTask / (row * w.kernel_height * w.kernel_width) + 1;
  // Pairs of rows share their work.
  const size_t tasks = ferrule::ops::choose_tasks((rows + 1) / 2, smallest / 2 + 1, pool);
  ferrule::ops::run(kernel, *args, rows, tasks, pool, scratch, ferrule_conv_depthwise_i8_scratch(&w), 2);
  return FERRULE_OK;
}
