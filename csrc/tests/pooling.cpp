#include <vector>

#include "kernels/declarations.h"
#include "tests/window.h"

namespace ferrule::tests {

void test_pooling(Rig& rig, ferrule_pooling_fn* kernel) {
  Random& random = rig.random;
  ferrule_pooling_args args = {};
  args.kind = static_cast<int>(random.integer(0, 1));
  args.layout = static_cast<int>(random.integer(0, 1));
  args.count_padding = random.chance(2);
  args.window = draw_window(random);
  if (args.kind == FERRULE_POOLING_AVERAGE) args.window.dilation_height = args.window.dilation_width = 1;
  const bool last = args.layout == FERRULE_CHANNELS_LAST;
  if (!last && random.chance(2)) args.window.in_width += 60, args.window.out_width += 20;  // within or beyond
  args.pad_bottom = random.size(4);
  args.pad_right = random.size(4);
  args.channels = last ? random.size(80) : random.size(3);
  args.input_stride = args.channels + random.size(3);
  args.output_stride = args.channels + random.size(3);
  rig.describe("kind %d layout %d count padding %d %zu channels %s", args.kind, args.layout,
               args.count_padding, args.channels, describe_window(args.window).c_str());

  const size_t inputs = count_inputs(args.window) * (last ? args.input_stride : args.channels);
  const size_t outputs = count_outputs(args.window) * (last ? args.output_stride : args.channels);
  Buffer<float> input = draw_normal(random, inputs), got(random, outputs);
  if (inputs && random.chance(8))
    input[static_cast<size_t>(random.integer(0, static_cast<int64_t>(inputs) - 1))] = NAN;
  Buffer<float> want = got;
  args.input = input.data();
  const size_t units = args.window.batch * args.window.out_height * (last ? 1 : args.channels);
  args.output = want.data();
  ferrule_pooling_scalar(&args, 0, units, nullptr);
  args.output = got.data();
  kernel(&args, 0, units, nullptr);
  const float bound = args.kind == FERRULE_POOLING_MAX ? 0 : 2e-6f;
  rig.expect_close("output", got.data(), want.data(), outputs, bound, bound);
  rig.expect(got.intact(), "wrote past its output");
}

void test_pooling_i8(Rig& rig, ferrule_pooling_i8_fn* kernel) {
  Random& random = rig.random;
  ferrule_pooling_i8_args args = {};
  args.kind = static_cast<int>(random.integer(0, 1));
  args.count_padding = random.chance(2);
  args.padding_code = static_cast<int32_t>(random.integer(-128, 127));
  args.window = draw_window(random);
  if (args.kind == FERRULE_POOLING_AVERAGE) args.window.dilation_height = args.window.dilation_width = 1;
  args.pad_bottom = random.size(4);
  args.pad_right = random.size(4);
  args.channels = random.size(140);
  args.input_stride = args.channels + random.size(3);
  args.output_stride = args.channels + random.size(3);
  rig.describe("kind %d count padding %d %zu channels %s", args.kind, args.count_padding, args.channels,
               describe_window(args.window).c_str());

  const size_t outputs = count_outputs(args.window) * args.output_stride;
  const Buffer<int8_t> input = draw_codes(random, count_inputs(args.window) * args.input_stride);
  Buffer<int8_t> got(random, outputs);
  Buffer<int8_t> want = got;
  args.input = input.data();
  const size_t units = args.window.batch * args.window.out_height;
  args.output = want.data();
  ferrule_pooling_i8_scalar(&args, 0, units, nullptr);
  args.output = got.data();
  kernel(&args, 0, units, nullptr);
  rig.expect_codes("output", got.data(), want.data(), outputs);
  rig.expect(got.intact(), "wrote past its output");
}

namespace {

const ferrule_window kWindow = {2, 4, 4, 2, 2, 2, 2, 2, 2, 1, 1, 0, 0};

bool refuses() {
  std::vector<float> x(2 * 16 * 3), y(2 * 4 * 3);
  ferrule_pooling_args good = {};
  good.input = x.data();
  good.output = y.data();
  good.window = kWindow;
  good.channels = good.input_stride = good.output_stride = 3;
  auto status = [&](auto change) {
    ferrule_pooling_args args = good;
    change(args);
    return ferrule_pooling(&args, nullptr, nullptr);
  };
  return ferrule_pooling(&good, nullptr, nullptr) == FERRULE_OK &&
         ferrule_pooling(&good, "none such", nullptr) == FERRULE_BAD_ISA &&
         status([](auto& a) { a.kind = 2; }) == FERRULE_BAD_TYPE &&
         status([](auto& a) { a.layout = 2; }) == FERRULE_BAD_TYPE &&
         status([](auto& a) { a.kind = FERRULE_POOLING_AVERAGE, a.window.dilation_width = 2; }) ==
             FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.window.stride_width = 0; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.input = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.output = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.input_stride = 2; }) == FERRULE_BAD_LAYOUT &&
         status([](auto& a) { a.pad_right = SIZE_MAX; }) == FERRULE_TOO_LARGE &&
         status([](auto& a) { a.window.batch = SIZE_MAX / 4; }) == FERRULE_TOO_LARGE &&
         status([](auto& a) { a.window.batch = 0, a.output = nullptr; }) == FERRULE_OK;
}

bool codes_refuse() {
  std::vector<int8_t> x(2 * 16 * 3), y(2 * 4 * 3);
  ferrule_pooling_i8_args good = {};
  good.kind = FERRULE_POOLING_AVERAGE;
  good.input = x.data();
  good.output = y.data();
  good.window = kWindow;
  good.channels = good.input_stride = good.output_stride = 3;
  auto status = [&](auto change) {
    ferrule_pooling_i8_args args = good;
    change(args);
    return ferrule_pooling_i8(&args, nullptr, nullptr);
  };
  return ferrule_pooling_i8(&good, nullptr, nullptr) == FERRULE_OK &&
         ferrule_pooling_i8(&good, "none such", nullptr) == FERRULE_BAD_ISA &&
         status([](auto& a) { a.kind = 2; }) == FERRULE_BAD_TYPE &&
         status([](auto& a) { a.window.dilation_height = 2; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.padding_code = 128; }) == FERRULE_BAD_VALUE &&
         status([](auto& a) { a.input = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.output_stride = 2; }) == FERRULE_BAD_LAYOUT &&
         status([](auto& a) { a.window.kernel_height = 40000; }) == FERRULE_TOO_LARGE;
}

bool same_with_a_pool() {
  ferrule_pooling_args args = {};
  args.window = {1, 60, 60, 30, 30, 3, 3, 2, 2, 1, 1, 1, 1};
  args.channels = args.input_stride = args.output_stride = 64;
  Random random(9);
  const Buffer<float> input = draw_normal(random, 60 * 60 * 64);
  std::vector<float> alone(30 * 30 * 64), divided(alone.size());
  ferrule_pool* pool = ferrule_pool_create(3);
  if (!pool) return false;
  args.input = input.data();
  bool same = true;
  for (const int layout : {FERRULE_CHANNELS_LAST, FERRULE_CHANNELS_FIRST}) {
    args.layout = layout;
    args.output = alone.data();
    same = same && ferrule_pooling(&args, nullptr, nullptr) == FERRULE_OK;
    args.output = divided.data();
    same = same && ferrule_pooling(&args, nullptr, pool) == FERRULE_OK && alone == divided;
  }
  ferrule_pool_destroy(pool);
  return same;
}

// Sizes that torch.nn.MaxPool2d gives.
bool sizes_hold() {
  return ferrule_pooling_outputs(112, 3, 2, 1, 1, 1, 0) == 56 &&
         ferrule_pooling_outputs(5, 2, 2, 1, 0, 0, 0) == 2 &&
         ferrule_pooling_outputs(5, 2, 2, 1, 0, 0, 1) == 3 &&
         ferrule_pooling_outputs(4, 1, 3, 1, 0, 0, 1) == 2 &&
         ferrule_pooling_outputs(3, 1, 2, 1, 0, 0, 1) == 2 &&
         ferrule_pooling_outputs(5, 2, 4, 1, 1, 1, 1) == 2 &&
         ferrule_pooling_outputs(5, 3, 2, 3, 0, 0, 0) == 0;
}

}  // namespace

bool pooling_op_passes() { return refuses() && codes_refuse() && same_with_a_pool() && sizes_hold(); }

}  // namespace ferrule::tests
