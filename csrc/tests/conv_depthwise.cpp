#include "ferrule/conv_depthwise.h"

#include "kernels/declarations.h"
#include "tests/rig.h"
#include "tests/window.h"

namespace ferrule::tests {

namespace {

constexpr ferrule_window kSmall = {1, 5, 6, 5, 6, 3, 3, 1, 1, 1, 1, 1, 1};

// A valid call of 5 x 6 pixels and 20 channels.
struct Call {
  Random random{7};
  Buffer<float> input = draw_normal(random, 600), weight = draw_normal(random, 180),
                bias = draw_normal(random, 20);
  Buffer<float> output{random, 600};
  ferrule_conv_depthwise_args args = {};
  Call() {
    args.input = input.data();
    args.weight = weight.data();
    args.bias = bias.data();
    args.output = output.data();
    args.input_stride = args.output_stride = args.residual_stride = args.channels = 20;
    args.window = kSmall;
    args.activation = FERRULE_ACTIVATION_SILU;
  }
};

template <typename Change>
bool refuses(ferrule_status status, Change change) {
  Call call;
  change(call.args);
  return ferrule_conv_depthwise(&call.args, nullptr, nullptr) == status;
}

bool agrees_with_kernel(ferrule_pool* pool) {
  Call got, want;
  ferrule_conv_depthwise_scalar(&want.args, 0, 5, nullptr);
  if (ferrule_conv_depthwise(&got.args, nullptr, pool) != FERRULE_OK) return false;
  for (size_t i = 0; i < want.output.size(); ++i) {
    if (fabsf(got.output[i] - want.output[i]) > 1e-4f) return false;
  }
  return true;
}

}  // namespace

void test_conv_depthwise(Rig& rig, ferrule_conv_depthwise_fn* kernel) {
  Random& random = rig.random;
  const ferrule_window window = draw_window(random);
  const size_t channels = random.size(40) + 1, stride = channels + random.size(3);
  const bool has_residual = random.chance(3), in_place = has_residual && random.chance(2);
  const auto activation = static_cast<ferrule_activation>(
      random.chance(2) ? 0 : random.integer(0, FERRULE_ACTIVATION_HARD_SWISH));
  rig.describe("%s channels %zu stride %zu activation %d residual %d in place %d",
               describe_window(window).c_str(), channels, stride, activation, has_residual, in_place);

  const Buffer<float> input = draw_normal(random, count_inputs(window) * stride),
                      bias = draw_normal(random, channels);
  const Buffer<float> weight = draw_normal(random, window.kernel_height * window.kernel_width * channels);
  const Buffer<float> residual = draw_normal(random, count_outputs(window) * stride);
  Buffer<float> output = residual, want = residual;

  ferrule_conv_depthwise_args args = {};
  args.input = input.data();
  args.weight = weight.data();
  args.bias = random.chance(4) ? nullptr : bias.data();
  args.input_stride = args.residual_stride = args.output_stride = stride;
  args.channels = channels;
  args.window = window;
  args.activation = activation;
  const size_t rows = window.batch * window.out_height;
  const auto begin = static_cast<size_t>(random.integer(0, static_cast<int64_t>(rows)));

  args.output = want.data();
  args.residual = has_residual ? in_place ? want.data() : residual.data() : nullptr;
  ferrule_conv_depthwise_scalar(&args, 0, rows, nullptr);
  args.output = output.data();
  args.residual = has_residual ? in_place ? output.data() : residual.data() : nullptr;
  kernel(&args, begin, rows, nullptr);
  kernel(&args, 0, begin, nullptr);
  rig.expect_close("output", output.data(), want.data(), want.size(), 5e-5f, 2e-5f);
  rig.expect(output.intact(), "wrote past its output");
}

bool conv_depthwise_op_passes() {
  ferrule_pool* pool = ferrule_pool_create(3);
  bool ok = agrees_with_kernel(nullptr) && agrees_with_kernel(pool);
  ferrule_pool_destroy(pool);
  using Args = ferrule_conv_depthwise_args;
  ok = ok && refuses(FERRULE_OK, [](Args& a) { a.channels = 0, a.output = nullptr; });
  ok = ok && refuses(FERRULE_OK, [](Args& a) { a.window.in_width = 0, a.input = nullptr; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.input = nullptr; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.weight = nullptr; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.output = nullptr; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.window.kernel_width = 0; });
  ok = ok && refuses(FERRULE_BAD_SHAPE, [](Args& a) { a.window.stride_height = 0; });
  ok = ok && refuses(FERRULE_BAD_LAYOUT, [](Args& a) { a.input_stride = 19; });
  ok = ok && refuses(FERRULE_BAD_LAYOUT, [](Args& a) { a.output_stride = 0; });
  ok = ok && refuses(FERRULE_TOO_LARGE, [](Args& a) { a.window.batch = SIZE_MAX / 2; });
  ok = ok && refuses(FERRULE_TOO_LARGE, [](Args& a) { a.window.dilation_width = SIZE_MAX / 2; });
  ok = ok && refuses(FERRULE_TOO_LARGE, [](Args& a) { a.window.pad_left = SIZE_MAX; });
  ok = ok && refuses(FERRULE_BAD_TYPE, [](Args& a) {
         a.activation = static_cast<ferrule_activation>(FERRULE_ACTIVATION_HARD_SWISH + 1);
       });
  return ok;
}

}  // namespace ferrule::tests
