#include <vector>

#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {
namespace {

// Scores, some of them masked out; now and then a whole row, or one with a NaN or a score far above the rest.
void draw_scores(Random& random, float* row, size_t width) {
  const int64_t masked = random.integer(0, 6);
  for (size_t i = 0; i < width; ++i) {
    row[i] = random.normal() * 3;
    if (masked == 1 || (masked == 0 && random.chance(2))) row[i] = -HUGE_VALF;
  }
  if (width && random.chance(8)) row[random.integer(0, static_cast<int64_t>(width) - 1)] = 1e4f;
  if (width && random.chance(16)) row[random.integer(0, static_cast<int64_t>(width) - 1)] = NAN;
}

}  // namespace

void test_softmax(Rig& rig, ferrule_softmax_fn* kernel) {
  Random& random = rig.random;
  const size_t rows = random.size(5), width = random.size(200);
  const size_t stride = width + random.size(3);
  const bool in_place = random.chance(4), masked = random.chance(2), shared = random.chance(2);
  ferrule_softmax_args args = {};
  args.logarithm = random.chance(3);
  args.scale = random.chance(2) ? 1 : random.uniform(0.05f, 2);
  rig.describe("rows %zu width %zu stride %zu in place %d masked %d shared %d logarithm %d", rows, width,
               stride, in_place, masked, shared, args.logarithm);

  Buffer<float> input(random, rows * stride), output(random, rows * stride);
  Buffer<float> mask = draw_normal(random, (shared ? 1 : rows) * stride);
  for (size_t r = 0; r < rows; ++r) draw_scores(random, input.data() + r * stride, width);
  for (size_t i = 0; i < mask.size(); ++i) mask[i] = random.chance(5) ? -HUGE_VALF : mask[i];
  Buffer<float> want = in_place ? input : output;
  args.input = input.data();
  args.mask = masked ? mask.data() : nullptr;
  args.input_stride = args.output_stride = stride;
  args.mask_stride = shared ? 0 : stride;
  args.rows = rows;
  args.width = width;

  args.output = want.data();
  ferrule_softmax_scalar(&args, 0, rows, nullptr);
  args.output = in_place ? input.data() : output.data();
  kernel(&args, 0, rows, nullptr);
  const Buffer<float>& got = in_place ? input : output;
  rig.expect_close("output", got.data(), want.data(), want.size(), args.logarithm ? 1e-6f : 1e-12f, 2e-6f);
  rig.expect(got.intact(), "wrote past its output");
}

namespace {

bool refuses() {
  float x[4] = {};
  ferrule_softmax_args good = {};
  good.input = good.output = x;
  good.input_stride = good.output_stride = good.rows = good.width = 2;
  good.scale = 1;
  auto status = [&](auto change) {
    ferrule_softmax_args args = good;
    change(args);
    return ferrule_softmax(&args, nullptr, nullptr);
  };
  return ferrule_softmax(&good, nullptr, nullptr) == FERRULE_OK &&
         ferrule_softmax(&good, "none such", nullptr) == FERRULE_BAD_ISA &&
         status([](auto& a) { a.input = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.output = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.scale = NAN; }) == FERRULE_BAD_VALUE &&
         status([](auto& a) { a.scale = 0; }) == FERRULE_BAD_VALUE &&
         status([](auto& a) { a.input_stride = 1; }) == FERRULE_BAD_LAYOUT &&
         status([&](auto& a) { a.mask = x, a.mask_stride = 1; }) == FERRULE_BAD_LAYOUT &&
         status([](auto& a) { a.rows = SIZE_MAX / 4; }) == FERRULE_TOO_LARGE &&
         status([](auto& a) { a.rows = 0, a.input = nullptr; }) == FERRULE_OK;
}

bool same_with_a_pool() {
  constexpr size_t kRows = 333, kWidth = 300;
  Random random(3);
  const Buffer<float> input = draw_normal(random, kRows * kWidth);
  std::vector<float> alone(kRows * kWidth), divided(kRows * kWidth);
  ferrule_softmax_args args = {input.data(), nullptr, alone.data(), kWidth, 0, kWidth, kRows, kWidth, 1, 0};
  ferrule_pool* pool = ferrule_pool_create(3);
  if (!pool) return false;
  bool same = ferrule_softmax(&args, nullptr, nullptr) == FERRULE_OK;
  args.output = divided.data();
  same = same && ferrule_softmax(&args, nullptr, pool) == FERRULE_OK && alone == divided;
  ferrule_pool_destroy(pool);
  return same;
}

}  // namespace

bool softmax_op_passes() { return refuses() && same_with_a_pool(); }

}  // namespace ferrule::tests
