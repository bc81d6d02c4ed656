#include "ferrule/conv_depthwise_i8.h"

#include "ferrule/arena.h"
#include "kernels/declarations.h"
#include "tests/rig.h"
#include "tests/window.h"

namespace ferrule::tests {

namespace {

// Memory at FERRULE_ALIGNMENT that ends where it is said to, but for the rest of the last line.
struct Aligned {
  ferrule_arena arena;
  explicit Aligned(size_t bytes) { ferrule_arena_create(&arena, bytes); }
  ~Aligned() { ferrule_arena_destroy(&arena); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
};

// A valid call of 5 x 6 pixels and 20 channels.
struct Call {
  Random random{7};
  Buffer<int8_t> codes = draw_codes(random, 180), input = draw_codes(random, 600);
  Buffer<float> scales = Buffer<float>(random, 20, 0.01f);
  Buffer<float> output{random, 600};
  Aligned packed{ferrule_conv_depthwise_i8_packed_bytes(3, 3, 20)};
  ferrule_conv_depthwise_i8_args args = {};
  Aligned scratch{3 * ferrule_conv_depthwise_i8_scratch(&kSmall)};
  static constexpr ferrule_window kSmall = {1, 5, 6, 5, 6, 3, 3, 1, 1, 1, 1, 1, 1};
  Call() {
    const ferrule_conv_depthwise_i8_weights weights = {codes.data(), scales.data(), nullptr, 3, 3, 20};
    ferrule_pack_conv_depthwise_i8(&weights, packed.arena.memory);
    args.input = input.data();
    args.input_scale = 0.02f;
    args.input_zero = 100;
    args.packed = packed.arena.memory;
    args.output = output.data();
    args.input_stride = args.output_stride = args.channels = 20;
    args.window = kSmall;
    args.epilogue.activation = FERRULE_ACTIVATION_SILU;
  }
  ferrule_status run(ferrule_pool* pool) {
    return ferrule_conv_depthwise_i8(&args, nullptr, scratch.arena.memory, pool);
  }
};

template <typename Change>
bool refuses(ferrule_status status, Change change) {
  Call call;
  change(call.args);
  return call.run(nullptr) == status;
}

bool agrees_with_kernel(ferrule_pool* pool) {
  Call got, want;
  ferrule_conv_depthwise_i8_scalar(&want.args, 0, 5, nullptr);
  if (got.run(pool) != FERRULE_OK) return false;
  for (size_t i = 0; i < want.output.size(); ++i) {
    if (fabsf(got.output[i] - want.output[i]) > 1e-4f) return false;
  }
  return true;
}

bool refuses_weights() {
  Call call;
  ferrule_conv_depthwise_i8_weights weights = {call.codes.data(), call.scales.data(), nullptr, 3, 3, 20};
  unsigned char* packed = call.packed.arena.memory;
  bool ok = ferrule_pack_conv_depthwise_i8(&weights, nullptr) == FERRULE_BAD_SHAPE;
  ok = ok && ferrule_pack_conv_depthwise_i8(&weights, packed + 1) == FERRULE_BAD_LAYOUT;
  weights.kernel_width = 0;
  ok = ok && ferrule_pack_conv_depthwise_i8(&weights, packed) == FERRULE_BAD_SHAPE;
  weights.kernel_width = 30000;
  ok = ok && ferrule_pack_conv_depthwise_i8(&weights, packed) == FERRULE_TOO_LARGE;
  ok = ok && ferrule_conv_depthwise_i8_packed_bytes(SIZE_MAX, 2, 1) == 0;
  ok = ok && ferrule_conv_depthwise_i8_packed_bytes(3, 3, SIZE_MAX / 16) == 0;
  weights.kernel_width = 3;
  call.scales[19] = INFINITY;
  return ok && ferrule_pack_conv_depthwise_i8(&weights, packed) == FERRULE_BAD_VALUE;
}

// What a kernel may read and where: random weights, packed, and random inputs.
struct Case {
  Buffer<int8_t> codes;
  Buffer<float> scales, bias;
  Buffer<int8_t> input;
  Aligned packed, scratch;
  Case(Random& random, const ferrule_window& w, size_t channels, size_t stride)
      : codes(draw_codes(random, w.kernel_height * w.kernel_width * channels)),
        scales(random, channels),
        bias(draw_normal(random, channels)),
        input(draw_codes(random, count_inputs(w) * stride)),
        packed(ferrule_conv_depthwise_i8_packed_bytes(w.kernel_height, w.kernel_width, channels)),
        scratch(ferrule_conv_depthwise_i8_scratch(&w)) {
    for (size_t c = 0; c < channels; ++c) scales[c] = random.uniform(0.5f, 1.5f) / 128;
    const ferrule_conv_depthwise_i8_weights weights = {
        codes.data(),    scales.data(),  random.chance(4) ? nullptr : bias.data(),
        w.kernel_height, w.kernel_width, channels};
    ferrule_pack_conv_depthwise_i8(&weights, packed.arena.memory);
  }
};

}  // namespace

void test_conv_depthwise_i8(Rig& rig, ferrule_conv_depthwise_i8_fn* kernel) {
  Random& random = rig.random;
  const ferrule_window window = draw_window(random);
  const size_t channels = random.size(70) + 1, stride = channels + random.size(3);
  const Case drawn(random, window, channels, stride);
  const Buffer<float> residual = draw_normal(random, count_outputs(window) * stride);

  ferrule_conv_depthwise_i8_args args = {};
  args.input = drawn.input.data();
  args.input_is_signed = random.chance(2);
  args.input_scale = random.uniform(0.5f, 1.5f) / 64;
  args.input_zero = static_cast<int32_t>(random.integer(0, 255)) - 128 * args.input_is_signed;
  args.packed = drawn.packed.arena.memory;
  args.input_stride = args.output_stride = stride;
  args.channels = channels;
  args.window = window;
  args.epilogue.activation =
      static_cast<ferrule_activation>(random.chance(2) ? random.integer(0, 1) : random.integer(0, 6));
  args.epilogue.residual = random.chance(3) ? residual.data() : nullptr;
  args.epilogue.residual_stride = stride;
  args.epilogue.output_scale = random.chance(2) ? random.uniform(0.5f, 1.5f) / 16 : 0;
  args.epilogue.output_zero = static_cast<int32_t>(random.integer(-128, 127));
  rig.describe(
      "%s channels %zu stride %zu signed %d zero %d activation %d residual %d output scale %g zero %d",
      describe_window(window).c_str(), channels, stride, args.input_is_signed, args.input_zero,
      args.epilogue.activation, args.epilogue.residual != nullptr,
      static_cast<double>(args.epilogue.output_scale), args.epilogue.output_zero);

  const size_t rows = window.batch * window.out_height;
  const auto begin = static_cast<size_t>(random.integer(0, static_cast<int64_t>(rows)));
  const auto run = [&](ferrule_conv_depthwise_i8_fn* fn, void* output) {
    args.output = output;
    fn(&args, begin, rows, drawn.scratch.arena.memory);
    fn(&args, 0, begin, drawn.scratch.arena.memory);
  };
  if (args.epilogue.output_scale == 0) {
    Buffer<float> output(random, count_outputs(window) * stride), want = output;
    run(ferrule_conv_depthwise_i8_scalar, want.data());
    run(kernel, output.data());
    rig.expect_close("output", output.data(), want.data(), want.size(), 1e-4f, 2e-5f);
    rig.expect(output.intact(), "wrote past its output");
  } else {
    Buffer<int8_t> output(random, count_outputs(window) * stride), want = output;
    run(ferrule_conv_depthwise_i8_scalar, want.data());
    run(kernel, output.data());
    rig.expect_codes("output", output.data(), want.data(), want.size(), 1);  // ties may fall either way
    rig.expect(output.intact(), "wrote past its output");
  }
}

bool conv_depthwise_i8_op_passes() {
  ferrule_pool* pool = ferrule_pool_create(3);
  bool ok = agrees_with_kernel(nullptr) && agrees_with_kernel(pool) && refuses_weights();
  ferrule_pool_destroy(pool);
  using Args = ferrule_conv_depthwise_i8_args;
  ok = ok && refuses(FERRULE_OK, [](Args& a) { a.window.batch = 0, a.output = nullptr; });
  ok = ok && refuses(FERRULE_OK, [](Args& a) { a.window.in_width = 0, a.input = nullptr; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.input = nullptr; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.packed = nullptr; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.window.kernel_width = 0; });
  ok = ok && refuses(FERRULE_BAD_PACKED, [](Args& a) { a.window.kernel_width = 2; });
  ok = ok && refuses(FERRULE_BAD_PACKED, [](Args& a) { a.channels = 16; });
  ok = ok && refuses(FERRULE_BAD_LAYOUT, [](Args& a) { a.input_stride = 19; });
  ok = ok && refuses(FERRULE_BAD_LAYOUT, [](Args& a) { a.packed = static_cast<const char*>(a.packed) + 4; });
  ok = ok && refuses(FERRULE_TOO_LARGE, [](Args& a) { a.window.stride_width = SIZE_MAX / 64; });
  ok = ok && refuses(FERRULE_TOO_LARGE, [](Args& a) { a.window.kernel_width = 65536; });
  ok = ok && refuses(FERRULE_BAD_VALUE, [](Args& a) { a.input_scale = NAN; });
  ok = ok && refuses(FERRULE_BAD_VALUE, [](Args& a) { a.input_zero = -1; });
  ok = ok && refuses(FERRULE_BAD_VALUE, [](Args& a) { a.epilogue.output_scale = -1; });
  ok = ok &&
       refuses(FERRULE_BAD_VALUE, [](Args& a) { a.epilogue.output_scale = 1, a.epilogue.output_zero = 128; });
  return ok;
}

}  // namespace ferrule::tests
