#include <vector>

#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

void test_layer_norm(Rig& rig, ferrule_layer_norm_fn* kernel) {
  Random& random = rig.random;
  const size_t rows = random.size(5), width = random.size(200) + 1;
  const size_t stride = width + random.size(3);
  const bool in_place = random.chance(4), keeps_sum = random.chance(2), has_residual = random.chance(2);
  rig.describe("rows %zu width %zu stride %zu in place %d sum %d residual %d", rows, width, stride, in_place,
               keeps_sum, has_residual);

  Buffer<float> input = draw_normal(random, rows * stride), residual = draw_normal(random, rows * stride);
  const Buffer<float> weight = draw_normal(random, width), bias = draw_normal(random, width);
  Buffer<float> output(random, rows * stride), sum(random, rows * stride);
  Buffer<float> want = in_place ? input : output, want_sum = sum;

  ferrule_layer_norm_args args = {};
  args.input = input.data();
  args.residual = has_residual ? residual.data() : nullptr;
  args.weight = random.chance(4) ? nullptr : weight.data();
  args.bias = random.chance(4) ? nullptr : bias.data();
  args.input_stride = args.residual_stride = args.output_stride = args.sum_stride = stride;
  args.rows = rows;
  args.width = width;
  args.epsilon = 1e-5f;

  args.output = want.data();
  args.sum = keeps_sum ? want_sum.data() : nullptr;
  ferrule_layer_norm_scalar(&args, 0, rows, nullptr);
  args.output = in_place ? input.data() : output.data();
  args.sum = keeps_sum ? sum.data() : nullptr;
  kernel(&args, 0, rows, nullptr);

  const Buffer<float>& got = in_place ? input : output;
  rig.expect_close("output", got.data(), want.data(), want.size(), 2e-5f, 2e-5f);
  rig.expect_close("sum", sum.data(), want_sum.data(), want_sum.size(), 0, 0);
  rig.expect(got.intact() && sum.intact(), "wrote past its output");
}

namespace {

bool refuses() {
  float x[4] = {};
  ferrule_layer_norm_args good = {};
  good.input = good.output = x;
  good.input_stride = good.output_stride = good.rows = good.width = 2;
  auto status = [&](auto change) {
    ferrule_layer_norm_args args = good;
    change(args);
    return ferrule_layer_norm(&args, nullptr, nullptr);
  };
  return ferrule_layer_norm(&good, nullptr, nullptr) == FERRULE_OK &&
         ferrule_layer_norm(&good, "none such", nullptr) == FERRULE_BAD_ISA &&
         status([](auto& a) { a.input = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.output = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.epsilon = NAN; }) == FERRULE_BAD_VALUE &&
         status([](auto& a) { a.epsilon = -1; }) == FERRULE_BAD_VALUE &&
         status([](auto& a) { a.input_stride = 1; }) == FERRULE_BAD_LAYOUT &&
         status([&](auto& a) { a.sum = x; }) == FERRULE_BAD_LAYOUT &&
         status([](auto& a) { a.rows = SIZE_MAX / 4; }) == FERRULE_TOO_LARGE &&
         status([](auto& a) { a.rows = 0, a.input = nullptr; }) == FERRULE_OK;
}

bool same_with_a_pool() {
  constexpr size_t kRows = 333, kWidth = 300;
  Random random(3);
  const Buffer<float> input = draw_normal(random, kRows * kWidth);
  std::vector<float> alone(kRows * kWidth), divided(kRows * kWidth);
  ferrule_layer_norm_args args = {};
  args.input = input.data();
  args.input_stride = args.output_stride = args.width = kWidth;
  args.rows = kRows;
  ferrule_pool* pool = ferrule_pool_create(3);
  if (!pool) return false;
  args.output = alone.data();
  bool same = ferrule_layer_norm(&args, nullptr, nullptr) == FERRULE_OK;
  args.output = divided.data();
  same = same && ferrule_layer_norm(&args, nullptr, pool) == FERRULE_OK && alone == divided;
  ferrule_pool_destroy(pool);
  return same;
}

}  // namespace

bool layer_norm_op_passes() { return refuses() && same_with_a_pool(); }

}  // namespace ferrule::tests
