#include "ferrule/conv.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "ferrule/arena.h"
#include "ferrule/quantize_rows.h"
#include "ops/linear_packed.h"
#include "ops/run.h"
#include "ops/window.h"
#include "ops/windows.h"

namespace {

using ferrule::ops::fits;
using ferrule::ops::Packed;
using ferrule::ops::round_up;
using ferrule::ops::WindowRows;

constexpr size_t kBlockBytes = 256 * 1024;  // of rows, which stay in a second-level cache beside a panel
constexpr size_t kSmallestBlock = 32;       // rows for which reading all panels hardly counts
constexpr size_t kSmallestTask = 1 << 18;   // products

bool needs_codes(const ferrule_conv_args& args, const Packed& layer) {
  return args.input_kind == FERRULE_GEMM_F32 && layer.layout.input != FERRULE_GEMM_F32;
}

bool is_pointwise(const ferrule_window& w) { return w.kernel_height == 1 && w.kernel_width == 1; }

// How a call is done, and how its scratch memory is divided: codes of the input where they are made here,
// with a scale and a zero point of each pixel or image; then for each thread rows of windows, their scales
// and zero points, and the kernel's own.
struct Plan {
  Packed layer;        // the first group; the others differ in nothing but their panels
  size_t group_bytes;  // of packed weights
  size_t group_channels;
  size_t outputs;  // pixels of an image
  size_t element;  // bytes of an element of the rows
  bool quantizes, by_pixel;
  bool direct;  // the rows of the product are the pixels as they lie
  bool flat;    // they would be, were the codes of the other signedness
  size_t code_stride, code_rows, code_width;
  size_t row_stride;                                   // bytes
  size_t block, blocks;                                // rows; of an image
  size_t scales, zeros, workers;                       // offsets; codes lie at 0
  size_t row_scales, row_zeros, kernel, worker_bytes;  // offsets within a worker's part; rows lie at 0
  size_t bytes;
};

ferrule_status check_layer(const ferrule_conv_args& args, const Packed& layer) {
  const ferrule_window& w = args.window;
  if (args.groups == 0 || args.in_channels % args.groups != 0) return FERRULE_BAD_SHAPE;
  size_t depth = args.in_channels / args.groups;
  if (__builtin_mul_overflow(depth, w.kernel_height, &depth) ||
      __builtin_mul_overflow(depth, w.kernel_width, &depth)) {
    return FERRULE_TOO_LARGE;
  }
  if (depth != layer.spec.depth) return FERRULE_BAD_SHAPE;
  const bool codes = args.input_kind == FERRULE_GEMM_U8 || args.input_kind == FERRULE_GEMM_S8;
  if (!codes && args.input_kind != FERRULE_GEMM_F32) return FERRULE_BAD_TYPE;
  if (codes && layer.spec.input != FERRULE_INPUT_I8_STATIC) return FERRULE_BAD_TYPE;
  const bool strided = args.input_stride != args.in_channels;
  return needs_codes(args, layer) && !is_pointwise(w) && strided ? FERRULE_BAD_LAYOUT : FERRULE_OK;
}

ferrule_status check_epilogue(const ferrule_epilogue& epilogue) {
  if (epilogue.activation < FERRULE_ACTIVATION_NONE || epilogue.activation > FERRULE_ACTIVATION_HARD_SWISH) {
    return FERRULE_BAD_TYPE;
  }
  if (!isfinite(epilogue.output_scale) || epilogue.output_scale < 0) return FERRULE_BAD_VALUE;
  const bool in_range = epilogue.output_zero >= -128 && epilogue.output_zero <= 127;
  return epilogue.output_scale == 0 || in_range ? FERRULE_OK : FERRULE_BAD_VALUE;
}

ferrule_status check_images(const ferrule_conv_args& args, const Packed& layer) {
  const ferrule_window& w = args.window;
  size_t channels = 0;
  if (__builtin_mul_overflow(layer.spec.rows, args.groups, &channels)) return FERRULE_TOO_LARGE;
  const ferrule_epilogue& epilogue = args.epilogue;
  const size_t in_bytes = args.input_kind == FERRULE_GEMM_F32 ? sizeof(float) : 1;
  const size_t out_bytes = epilogue.output_scale == 0 ? sizeof(float) : 1;
  const ferrule_status statuses[] = {
      ferrule::ops::check_images(w.batch, w.in_height, w.in_width, args.in_channels, args.input_stride,
                                 in_bytes),
      ferrule::ops::check_images(w.batch, w.out_height, w.out_width, channels, args.output_stride, out_bytes),
      ferrule::ops::check_images(w.batch, w.out_height, w.out_width, channels,
                                 epilogue.residual ? epilogue.residual_stride : channels, sizeof(float))};
  for (const ferrule_status status : statuses) {
    if (status) return status;
  }
  return FERRULE_OK;
}

// Blocks of equal size that fit the cache and give each thread some.
void choose_blocks(size_t threads, const ferrule_conv_args& args, Plan* plan) {
  size_t most = kBlockBytes / plan->row_stride;
  if (threads > 1) {
    const size_t products = plan->layer.spec.depth * plan->layer.spec.rows + 1;
    const size_t share = plan->outputs * args.window.batch / (4 * threads) + 1;
    const size_t smallest = kSmallestTask / products + 1;
    if (most > share) most = share > smallest ? share : smallest;
  }
  if (most < kSmallestBlock) most = kSmallestBlock;
  plan->blocks = (plan->outputs + most - 1) / most;
  plan->block = plan->blocks ? (plan->outputs + plan->blocks - 1) / plan->blocks : 0;
}

bool divide_scratch(size_t threads, Plan* plan) {
  const bool integers = plan->layer.layout.input != FERRULE_GEMM_F32;
  const auto place = [](size_t bytes) { return round_up(bytes, FERRULE_ALIGNMENT); };
  if (!fits(plan->code_rows + FERRULE_ALIGNMENT, plan->code_stride + 16, 1)) return false;
  plan->scales = place(plan->code_rows * plan->code_stride);
  plan->zeros = plan->scales + place(plan->code_rows * sizeof(float));
  plan->workers = plan->zeros + place(plan->code_rows * sizeof(int32_t));
  if (!fits(plan->block + 1, plan->row_stride + 16, 1)) return false;
  plan->row_scales = plan->direct ? 0 : place(plan->block * plan->row_stride);
  plan->row_zeros = plan->row_scales + (integers ? place(plan->block * sizeof(float)) : 0);
  plan->kernel = plan->row_zeros + (integers ? place(plan->block * sizeof(int32_t)) : 0);
  plan->worker_bytes = plan->kernel + place(ferrule_gemm_scratch(&plan->layer.layout));
  size_t all = 0;
  return !__builtin_mul_overflow(plan->worker_bytes, threads, &all) &&
         !__builtin_add_overflow(all, plan->workers, &plan->bytes);
}

// Whether the layers of all groups are alike.
ferrule_status check_groups(const ferrule_conv_args& args, const Plan& plan) {
  const ferrule::ops::PackedHeader& first = *plan.layer.header;
  if (first.bytes != plan.group_bytes) return FERRULE_BAD_PACKED;
  for (size_t group = 1; group < args.groups; ++group) {
    const auto* header = reinterpret_cast<const char*>(&first) + group * plan.group_bytes;
    if (memcmp(header, &first, offsetof(ferrule::ops::PackedHeader, palette_error)) != 0)
      return FERRULE_BAD_PACKED;
  }
  return FERRULE_OK;
}

void choose_codes(const ferrule_conv_args& args, Plan* plan) {
  const ferrule_window& w = args.window;
  plan->quantizes = needs_codes(args, plan->layer);
  if (!plan->quantizes) return;
  plan->by_pixel = is_pointwise(w);
  const size_t pixels = w.in_height * w.in_width;
  plan->code_rows = plan->by_pixel ? w.batch * pixels : w.batch;
  plan->code_width = plan->by_pixel ? args.in_channels : pixels * args.in_channels;
  const bool pads = plan->by_pixel && args.groups == 1;
  plan->code_stride = pads ? plan->layer.layout.padded : plan->code_width;
}

ferrule_status make_plan(const ferrule_conv_args& args, size_t threads, Plan* plan) {
  *plan = {};
  if (args.groups == 0 || args.packed_bytes % args.groups != 0) return FERRULE_BAD_SHAPE;
  plan->group_bytes = args.packed_bytes / args.groups;
  const ferrule_window& w = args.window;
  if (const ferrule_status status = ferrule::ops::read_packed(args.packed, plan->group_bytes, &plan->layer))
    return status;
  if (const ferrule_status status = check_groups(args, *plan)) return status;
  if (const ferrule_status status = ferrule::ops::check_window(w)) return status;
  if (const ferrule_status status = check_layer(args, plan->layer)) return status;
  if (const ferrule_status status = check_epilogue(args.epilogue)) return status;
  if (const ferrule_status status = check_images(args, plan->layer)) return status;
  const ferrule_panel_layout& layout = plan->layer.layout;
  plan->group_channels = args.in_channels / args.groups;
  plan->outputs = w.out_height * w.out_width;
  plan->element = layout.input == FERRULE_GEMM_F32 ? sizeof(float) : 1;
  choose_codes(args, plan);
  const bool as_they_lie = is_pointwise(w) && w.stride_height == 1 && w.stride_width == 1 && w.pad_top == 0 &&
                           w.pad_left == 0 && w.out_height == w.in_height && w.out_width == w.in_width;
  const bool whole = layout.padded == plan->group_channels || (plan->quantizes && args.groups == 1);
  plan->direct = as_they_lie && (plan->element == sizeof(float) ||
                                 (whole && (plan->quantizes || args.input_kind == layout.input)));
  plan->flat = as_they_lie && whole && !plan->direct && args.input_stride == layout.padded;
  plan->row_stride =
      plan->flat ? layout.padded : ferrule::ops::choose_row_stride(layout.padded * plan->element);
  choose_blocks(threads, args, plan);
  return divide_scratch(threads, plan) ? FERRULE_OK : FERRULE_TOO_LARGE;
}

ferrule_status quantize(const ferrule_conv_args& args, const Plan& plan, uint8_t* scratch,
                        ferrule_pool* pool) {
  ferrule_quantize_rows_args rows = {};
  rows.input = static_cast<const float*>(args.input);
  rows.codes = scratch;
  rows.scales = reinterpret_cast<float*>(scratch + plan.scales);
  rows.zeros = reinterpret_cast<int32_t*>(scratch + plan.zeros);
  rows.input_stride = plan.by_pixel ? args.input_stride : plan.code_width;
  rows.codes_stride = rows.padded = plan.code_stride;
  rows.rows = plan.code_rows;
  rows.width = plan.code_width;
  rows.is_signed = plan.layer.layout.input == FERRULE_GEMM_S8;
  if (plan.layer.spec.input == FERRULE_INPUT_I8_STATIC) {
    rows.range_scale = plan.layer.spec.input_scale;
    rows.range_zero = plan.layer.spec.input_zero;
  }
  return ferrule_quantize_rows(&rows, plan.layer.header->isa, pool);
}

// A task: one block of outputs of one image, one group.
struct Task {
  const ferrule_conv_args* args;
  const Plan* plan;
  uint8_t* scratch;
};

// The image's scale and zero point, as the kernel reads codes.
void find_range(const Task& task, size_t image, float* scale, int32_t* zero) {
  const Plan& plan = *task.plan;
  if (plan.quantizes && !plan.by_pixel) {
    *scale = reinterpret_cast<const float*>(task.scratch + plan.scales)[image];
    *zero = reinterpret_cast<const int32_t*>(task.scratch + plan.zeros)[image];
  } else {
    *scale = plan.layer.spec.input_scale;
    *zero = plan.layer.spec.input_zero + (plan.layer.layout.input == FERRULE_GEMM_U8 ? 128 : 0);
  }
}

// Rows of one image as they lie, from output `first` on.
void take_pixels(const Task& task, size_t image, size_t first, size_t group, ferrule_gemm_args* gemm) {
  const ferrule_conv_args& args = *task.args;
  const Plan& plan = *task.plan;
  const size_t pixel = image * plan.outputs + first;
  gemm->input_stride = plan.quantizes ? plan.code_stride : args.input_stride;
  const auto* input = plan.quantizes ? task.scratch : static_cast<const uint8_t*>(args.input);
  gemm->input = input + (pixel * gemm->input_stride + group * plan.group_channels) * plan.element;
}

// Scales and zero points of rows, from those of the image or of pixels that were quantized by themselves.
void take_ranges(const Task& task, size_t image, size_t first, uint8_t* worker, ferrule_gemm_args* gemm) {
  const Plan& plan = *task.plan;
  const ferrule_window& w = task.args->window;
  auto* scales = reinterpret_cast<float*>(worker + plan.row_scales);
  auto* zeros = reinterpret_cast<int32_t*>(worker + plan.row_zeros);
  gemm->input_scales = scales;
  gemm->input_zeros = zeros;
  if (!plan.by_pixel) {
    gemm->uniform = 1;
    float scale = 0;
    int32_t zero = 0;
    find_range(task, image, &scale, &zero);
    for (size_t r = 0; r < gemm->m; ++r) scales[r] = scale, zeros[r] = zero;
    return;
  }
  const auto* pixel_scales = reinterpret_cast<const float*>(task.scratch + plan.scales);
  const auto* pixel_zeros = reinterpret_cast<const int32_t*>(task.scratch + plan.zeros);
  if (plan.direct) {
    gemm->input_scales = pixel_scales + image * plan.outputs + first;
    gemm->input_zeros = pixel_zeros + image * plan.outputs + first;
    gemm->uniform = plan.layer.spec.input == FERRULE_INPUT_I8_STATIC &&
                    ferrule::ops::all_equal(gemm->input_scales, gemm->m);
    return;
  }
  for (size_t r = 0; r < gemm->m; ++r) {
    const size_t y = (first + r) / w.out_width * w.stride_height - w.pad_top;
    const size_t x = (first + r) % w.out_width * w.stride_width - w.pad_left;
    const bool inside = y < w.in_height && x < w.in_width;
    const size_t pixel = (image * w.in_height + y) * w.in_width + x;
    scales[r] = inside ? pixel_scales[pixel] : 1;
    zeros[r] = inside ? pixel_zeros[pixel] : 0;
  }
}

// Neighbouring pixels, whose codes get the other signedness.
void flip_pixels(const Task& task, size_t image, size_t first, uint8_t* worker, ferrule_gemm_args* gemm) {
  const Plan& plan = *task.plan;
  const size_t width = plan.row_stride, bytes = gemm->m * width;
  const auto* input = static_cast<const uint8_t*>(task.args->input) + (image * plan.outputs + first) * width;
  for (size_t i = 0; i < bytes; ++i) worker[i] = input[i] ^ 0x80;
  gemm->input = worker;
  gemm->input_stride = width;
}

void gather_rows(const Task& task, size_t image, size_t first, size_t group, uint8_t* worker,
                 ferrule_gemm_args* gemm) {
  const ferrule_conv_args& args = *task.args;
  const Plan& plan = *task.plan;
  const ferrule_window& w = args.window;
  const bool flips = !plan.quantizes && args.input_kind != plan.layer.layout.input;
  const size_t stride =
      plan.quantizes ? plan.by_pixel ? plan.code_stride : args.in_channels : args.input_stride;
  const auto* input = plan.quantizes ? task.scratch : static_cast<const uint8_t*>(args.input);
  const size_t pixels = w.batch * w.in_height * w.in_width;
  float scale = 0;
  int32_t zero = 0;
  if (plan.element == 1 && !plan.by_pixel) find_range(task, image, &scale, &zero);
  WindowRows rows = {};
  rows.window = &w;
  rows.input = input + group * plan.group_channels * plan.element;
  rows.input_end = input + (pixels ? (pixels - 1) * stride + args.in_channels : 0) * plan.element;
  rows.pixel_bytes = stride * plan.element;
  rows.tap_bytes = plan.group_channels * plan.element;
  rows.flip = flips ? 0x80 : 0;
  rows.padding = static_cast<uint8_t>(zero) ^ rows.flip;
  rows.rows = worker;
  rows.row_bytes = plan.layer.layout.padded * plan.element;
  rows.row_stride = plan.row_stride;
  ferrule::ops::gather_windows(rows, image, first, gemm->m);
  gemm->input = worker;
  gemm->input_stride = plan.row_stride / plan.element;
}

void run_task(void* opaque, size_t index, size_t thread) {
  const Task& task = *static_cast<const Task*>(opaque);
  const ferrule_conv_args& args = *task.args;
  const Plan& plan = *task.plan;
  const size_t group = index % args.groups, block = index / args.groups;
  const size_t image = block / plan.blocks, first = block % plan.blocks * plan.block;
  const size_t channels = plan.layer.spec.rows, rest = plan.outputs - first;
  const size_t pixel = image * plan.outputs + first;
  uint8_t* worker = task.scratch + plan.workers + thread * plan.worker_bytes;

  ferrule_gemm_args gemm = {};
  gemm.m = rest < plan.block ? rest : plan.block;
  gemm.n = channels;
  gemm.layout = plan.layer.layout;
  gemm.packed = plan.layer.panels + group * plan.group_bytes;
  gemm.epilogue = args.epilogue;
  if (gemm.epilogue.residual)
    gemm.epilogue.residual += pixel * gemm.epilogue.residual_stride + group * channels;
  const size_t out_bytes = gemm.epilogue.output_scale == 0 ? sizeof(float) : 1;
  gemm.output =
      static_cast<uint8_t*>(args.output) + (pixel * args.output_stride + group * channels) * out_bytes;
  gemm.output_stride = args.output_stride;
  if (plan.direct)
    take_pixels(task, image, first, group, &gemm);
  else if (plan.flat)
    flip_pixels(task, image, first, worker, &gemm);
  else
    gather_rows(task, image, first, group, worker, &gemm);
  if (plan.element == 1) take_ranges(task, image, first, worker, &gemm);
  plan.layer.kernel(&gemm, 0, plan.layer.panel_count, worker + plan.kernel);
}

// The weights of group `group` alone.
ferrule_linear_weights take_group(const ferrule_linear_spec& spec, const ferrule_linear_weights& all,
                                  size_t group) {
  ferrule_linear_weights part = all;
  const size_t first = group * spec.rows;
  const bool lookup = ferrule::ops::is_lookup(spec.weight);
  const bool grouped = !lookup && spec.group && spec.group < spec.depth;
  const size_t scales = grouped ? (spec.depth + spec.group - 1) / spec.group : 1;
  if (all.values) part.values = all.values + first * spec.depth;
  if (all.codes) part.codes = static_cast<const uint8_t*>(all.codes) + first * spec.depth;
  if (all.scales) part.scales = all.scales + first * scales;
  if (all.bias) part.bias = all.bias + first;
  const size_t palettes = lookup && spec.group ? spec.rows / spec.group : 1;
  if (all.table && lookup) part.table = all.table + (group * palettes << ferrule::ops::bits_of(spec.weight));
  return part;
}

}  // namespace

ferrule_status ferrule_conv_packed_size(const ferrule_linear_spec* spec, size_t groups, const char* isa,
                                        size_t* bytes) {
  size_t one = 0;
  *bytes = 0;
  if (const ferrule_status status = ferrule_linear_packed_size(spec, isa, &one)) return status;
  if (groups == 0) return FERRULE_BAD_SHAPE;
  if (!fits(one, groups, 1)) return FERRULE_TOO_LARGE;
  *bytes = one * groups;
  return FERRULE_OK;
}

ferrule_status ferrule::ops::pack_layers(const ferrule_linear_spec& spec, size_t groups, const char* isa,
                                         const ferrule_linear_weights& weights, Sealing sealing,
                                         ferrule_pool* pool, void* packed) {
  size_t bytes = 0;
  if (const ferrule_status status = ferrule_conv_packed_size(&spec, groups, isa, &bytes)) return status;
  for (size_t group = 0; group < groups; ++group) {
    const ferrule_linear_weights part = take_group(spec, weights, group);
    auto* to = static_cast<uint8_t*>(packed) + group * (bytes / groups);
    if (const ferrule_status status = pack_layer(spec, isa, part, sealing, pool, to)) return status;
  }
  return FERRULE_OK;
}

ferrule_status ferrule_conv_pack(const ferrule_linear_spec* spec, size_t groups, const char* isa,
                                 const ferrule_linear_weights* weights, void* packed) {
  using ferrule::ops::Sealing;
  return ferrule::ops::pack_layers(*spec, groups, isa, *weights, Sealing::kSummed, nullptr, packed);
}

size_t ferrule_conv_scratch(const ferrule_conv_args* args, size_t threads) {
  Plan plan;
  return make_plan(*args, threads, &plan) == FERRULE_OK ? plan.bytes : 0;
}

ferrule_status ferrule_conv(const ferrule_conv_args* args, void* scratch, ferrule_pool* pool) {
  Plan plan;
  if (const ferrule_status status = make_plan(*args, ferrule_pool_threads(pool), &plan)) return status;
  const ferrule_window& w = args->window;
  if (w.batch == 0 || plan.outputs == 0 || plan.layer.spec.rows == 0) return FERRULE_OK;
  const bool has_input = w.in_height * w.in_width * args->in_channels > 0;
  if (!args->output || !scratch || (has_input && !args->input)) return FERRULE_BAD_SHAPE;
  if (reinterpret_cast<uintptr_t>(scratch) % FERRULE_ALIGNMENT) return FERRULE_BAD_LAYOUT;
  Task task = {args, &plan, static_cast<uint8_t*>(scratch)};
  if (plan.quantizes) {
    if (const ferrule_status status = quantize(*args, plan, task.scratch, pool)) return status;
  }
  ferrule_pool_run(pool, w.batch * plan.blocks * args->groups, run_task, &task);
  return FERRULE_OK;
}
