// The op against loops over the decoded weights.
#include "ferrule/conv.h"

#include <stdio.h>

#include "ferrule/arena.h"
#include "ferrule/dispatch.h"
#include "ops/panels.h"
#include "tests/gemm.h"
#include "tests/rig.h"
#include "tests/window.h"

namespace ferrule::tests {

namespace {

struct Memory {
  explicit Memory(size_t bytes) { ferrule_arena_create(&arena, bytes + FERRULE_ALIGNMENT); }
  ~Memory() { ferrule_arena_destroy(&arena); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  uint8_t* data() { return arena.memory; }
  ferrule_arena arena = {};
};

struct Case {
  ferrule_linear_spec spec = {};
  size_t groups = 1, channels = 0, stride = 0;  // channels of a group; elements from pixel to pixel
  ferrule_window window = {};
  ferrule_gemm_input kind = FERRULE_GEMM_F32;

  bool pointwise() const { return window.kernel_height == 1 && window.kernel_width == 1; }
  size_t out_channels() const { return spec.rows * groups; }
};

Case draw_case(Random& random) {
  Case c;
  c.window = draw_window(random);
  if (random.chance(3)) {
    ferrule_window& w = c.window;
    w.kernel_height = w.kernel_width = 1;
    if (random.chance(2)) {
      w.stride_height = w.stride_width = 1;
      w.pad_top = w.pad_left = 0;
      w.out_height = w.in_height, w.out_width = w.in_width;
    }
  }
  const ferrule_weight_kind kinds[] = {FERRULE_WEIGHT_F32, FERRULE_WEIGHT_F32, FERRULE_WEIGHT_AFFINE8,
                                       FERRULE_WEIGHT_AFFINE8, FERRULE_WEIGHT_AFFINE4};
  c.spec.weight = kinds[random.integer(0, 4)];
  if (c.spec.weight != FERRULE_WEIGHT_F32)
    c.spec.input = static_cast<ferrule_input_kind>(random.integer(0, 2));
  if (c.spec.input == FERRULE_INPUT_I8_STATIC) {
    c.spec.input_scale = 0.03f;
    c.spec.input_zero = static_cast<int32_t>(random.integer(-60, 60));
    c.kind = static_cast<ferrule_gemm_input>(random.integer(0, 2));
  }
  c.groups = random.chance(3) ? static_cast<size_t>(random.integer(1, 3)) : 1;
  c.channels = random.size(random.chance(4) ? 40 : 9) + 1;
  c.spec.rows = random.size(20) + 1;
  c.spec.depth = c.window.kernel_height * c.window.kernel_width * c.channels;
  const bool strided = c.kind != FERRULE_GEMM_F32 || c.spec.input == FERRULE_INPUT_F32 || c.pointwise();
  c.stride = c.channels * c.groups + (strided ? random.size(3) : 0);
  return c;
}

// What the layer makes of the input, as float values: quantized pixel by pixel or image by image.
std::vector<double> see_input(const Case& c, const Buffer<float>& input, const Buffer<int8_t>& codes) {
  std::vector<double> seen(input.size());
  const size_t pixels = count_inputs(c.window), width = c.channels * c.groups;
  const size_t unit = c.pointwise() ? 1 : c.window.in_height * c.window.in_width;
  for (size_t first = 0; first < pixels; first += unit) {
    float low = 0, high = 0, scale = c.spec.input_scale, zero = static_cast<float>(c.spec.input_zero);
    const auto each = [&](auto use) {
      for (size_t p = first; p < first + unit; ++p) {
        for (size_t k = 0; k < width; ++k) use(p * c.stride + k);
      }
    };
    each([&](size_t i) { low = fminf(low, input[i]), high = fmaxf(high, input[i]); });
    if (c.spec.input == FERRULE_INPUT_I8_DYNAMIC) {
      scale = fmaxf((high - low) / 255, 0x1p-23f);
      zero = fminf(fmaxf(-128 - rintf(low / scale), -128), 127);
    }
    each([&](size_t i) {
      float code = fminf(fmaxf(rintf(input[i] / scale) + zero, -128), 127);
      if (c.kind == FERRULE_GEMM_S8) code = codes[i];
      if (c.kind == FERRULE_GEMM_U8) code = static_cast<float>(static_cast<uint8_t>(codes[i])) - 128;
      seen[i] = c.spec.input == FERRULE_INPUT_F32 ? static_cast<double>(input[i])
                                                  : static_cast<double>(code - zero) * scale;
    });
  }
  return seen;
}

double weight_at(const Case& c, const DrawnWeights& drawn, size_t n, size_t k) {
  if (c.spec.weight == FERRULE_WEIGHT_F32) return drawn.values[n * c.spec.depth + k];
  return static_cast<double>(drawn.scales[n]) * drawn.codes[n * c.spec.depth + k];
}

// The value of one output, and the sum of the sizes of its terms.
double convolve(const Case& c, const std::vector<double>& seen, const DrawnWeights& drawn, size_t pixel,
                size_t n, double* size) {
  const ferrule_window& w = c.window;
  const size_t image = pixel / (w.out_height * w.out_width), y = pixel / w.out_width % w.out_height;
  double sum = drawn.bias.empty() ? 0 : drawn.bias[n];
  *size = 1;
  for (size_t i = 0; i < w.kernel_height; ++i) {
    for (size_t j = 0; j < w.kernel_width; ++j) {
      const size_t row = y * w.stride_height + i * w.dilation_height - w.pad_top;
      const size_t column = pixel % w.out_width * w.stride_width + j * w.dilation_width - w.pad_left;
      if (row >= w.in_height || column >= w.in_width) continue;
      const size_t at =
          ((image * w.in_height + row) * w.in_width + column) * c.stride + n / c.spec.rows * c.channels;
      for (size_t k = 0; k < c.channels; ++k) {
        const double product =
            seen[at + k] * weight_at(c, drawn, n, (i * w.kernel_width + j) * c.channels + k);
        sum += product;
        *size += fabs(product);
      }
    }
  }
  return sum;
}

bool computes(const char* isa, uint64_t seed, ferrule_pool* pool) {
  Random random(seed);
  const Case c = draw_case(random);
  ferrule_linear_spec all = c.spec;
  all.rows = c.out_channels();
  const DrawnWeights drawn = draw_weights(random, all, false);
  const ferrule_linear_weights weights = drawn.weights();
  size_t bytes = 0;
  if (ferrule_conv_packed_size(&c.spec, c.groups, isa, &bytes) != FERRULE_OK) return false;
  Memory packed(bytes);
  if (ferrule_conv_pack(&c.spec, c.groups, isa, &weights, packed.data()) != FERRULE_OK) return false;

  const size_t elements = count_inputs(c.window) * c.stride, out_stride = c.out_channels() + random.size(3);
  const Buffer<float> input = draw_normal(random, elements);
  const Buffer<int8_t> codes = draw_codes(random, elements);
  const Buffer<float> residual = draw_normal(random, count_outputs(c.window) * out_stride);
  Buffer<float> output = residual;
  ferrule_conv_args args = {};
  args.packed = packed.data();
  args.packed_bytes = bytes;
  args.groups = c.groups;
  args.input = c.kind == FERRULE_GEMM_F32 ? static_cast<const void*>(input.data()) : codes.data();
  args.input_kind = c.kind;
  args.output = output.data();
  args.input_stride = c.stride;
  args.output_stride = args.epilogue.residual_stride = out_stride;
  args.in_channels = c.channels * c.groups;
  args.window = c.window;
  args.epilogue.activation = random.chance(2) ? FERRULE_ACTIVATION_RELU : FERRULE_ACTIVATION_NONE;
  args.epilogue.residual = random.chance(3) ? output.data() : nullptr;
  Memory scratch(ferrule_conv_scratch(&args, ferrule_pool_threads(pool)));
  if (ferrule_conv(&args, scratch.data(), pool) != FERRULE_OK) return false;

  const std::vector<double> seen = see_input(c, input, codes);
  for (size_t p = 0; p < count_outputs(c.window); ++p) {
    for (size_t n = 0; n < out_stride; ++n) {
      double size = 0, want = residual[p * out_stride + n];
      if (n < c.out_channels()) {
        want = convolve(c, seen, drawn, p, n, &size);
        if (args.epilogue.activation == FERRULE_ACTIVATION_RELU) want = fmax(want, 0);
        if (args.epilogue.residual) want += residual[p * out_stride + n];
      }
      const float got = output[p * out_stride + n];
      if (fabs(got - want) <= 2e-5 * size) continue;
      printf(
          "conv: %s weight %d input %d kind %d isa %s channels %zu rows %zu groups %zu seed %llu: [%zu][%zu] "
          "is %g, want %g\n",
          describe_window(c.window).c_str(), c.spec.weight, c.spec.input, c.kind, isa, c.channels,
          c.spec.rows, c.groups, static_cast<unsigned long long>(seed), p, n, static_cast<double>(got), want);
      return false;
    }
  }
  return output.intact();
}

bool all_compute(ferrule_pool* pool, uint64_t seeds) {
  for (size_t i = 0; i < ferrule_isa_count(); ++i) {
    const char* isa = ferrule_isa_at(i);
    if (!is_tested(isa)) continue;
    for (uint64_t seed = 0; seed < seeds; ++seed) {
      if (!computes(isa, seed, pool)) return false;
    }
  }
  return true;
}

// A valid call: 3 x 3 windows over 5 x 6 pixels, two groups of 4 channels that become 3.
struct Call {
  Random random{7};
  ferrule_linear_spec spec = {};
  DrawnWeights drawn;
  Buffer<float> input = draw_normal(random, 240), output{random, 180};
  size_t bytes = 0;
  Memory packed{8192}, scratch{1 << 20};
  ferrule_conv_args args = {};
  explicit Call(ferrule_input_kind kind) {
    spec.weight = FERRULE_WEIGHT_AFFINE8;
    spec.input = kind;
    spec.rows = 3;
    spec.depth = 36;
    spec.input_scale = kind == FERRULE_INPUT_I8_STATIC ? 0.1f : 0;
    ferrule_linear_spec all = spec;
    all.rows = 6;
    drawn = draw_weights(random, all, false);
    const ferrule_linear_weights weights = drawn.weights();
    ferrule_conv_packed_size(&spec, 2, "scalar", &bytes);
    ferrule_conv_pack(&spec, 2, "scalar", &weights, packed.data());
    args.packed = packed.data();
    args.packed_bytes = bytes;
    args.groups = 2;
    args.input = input.data();
    args.output = output.data();
    args.input_stride = args.in_channels = 8;
    args.output_stride = 6;
    args.window = {1, 5, 6, 5, 6, 3, 3, 1, 1, 1, 1, 1, 1};
  }
};

template <typename Change>
bool refuses(ferrule_status status, Change change, ferrule_input_kind kind = FERRULE_INPUT_I8_DYNAMIC) {
  Call call(kind);
  change(call.args);
  const bool ok = ferrule_conv(&call.args, call.scratch.data(), nullptr) == status;
  const bool sizes =
      status == FERRULE_OK || status == FERRULE_BAD_SHAPE || ferrule_conv_scratch(&call.args, 1) == 0;
  return ok && sizes;
}

bool refuses_arguments() {
  using Args = ferrule_conv_args;
  bool ok = refuses(FERRULE_OK, [](Args&) {});
  ok = ok && refuses(FERRULE_OK, [](Args& a) { a.window.batch = 0, a.output = nullptr; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.input = nullptr; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.output = nullptr; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.groups = 0; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.in_channels = a.input_stride = 10; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.window.kernel_height = 2; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.window.stride_height = 0; });
  ok = ok && refuses(FERRULE_BAD_PACKED, [](Args& a) { a.groups = 1; });
  ok = ok && refuses(FERRULE_BAD_PACKED, [](Args& a) { a.packed = nullptr; });
  ok = ok && refuses(FERRULE_BAD_TYPE, [](Args& a) { a.input_kind = FERRULE_GEMM_U8; });
  ok = ok && refuses(FERRULE_OK, [](Args& a) { a.input_kind = FERRULE_GEMM_U8; }, FERRULE_INPUT_I8_STATIC);
  ok = ok && refuses(FERRULE_BAD_LAYOUT, [](Args& a) { a.input_stride = 9; });
  ok = ok && refuses(
                 FERRULE_BAD_LAYOUT, [](Args& a) { a.input_kind = FERRULE_GEMM_U8, a.input_stride = 7; },
                 FERRULE_INPUT_I8_STATIC);
  ok = ok && refuses(FERRULE_BAD_LAYOUT, [](Args& a) { a.output_stride = 5; });
  ok = ok && refuses(FERRULE_TOO_LARGE, [](Args& a) { a.window.batch = SIZE_MAX / 4; });
  ok = ok && refuses(FERRULE_TOO_LARGE, [](Args& a) { a.window.pad_top = SIZE_MAX; });
  ok = ok && refuses(FERRULE_BAD_VALUE, [](Args& a) { a.epilogue.output_scale = NAN; });
  return ok;
}

}  // namespace

bool conv_op_passes() {
  if (!refuses_arguments() || !all_compute(nullptr, 400)) return false;
  ferrule_pool* pool = ferrule_pool_create(3);
  const bool ok = all_compute(pool, 60);
  ferrule_pool_destroy(pool);
  return ok;
}

}  // namespace ferrule::tests
