#include "ferrule/hadamard.h"

#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

void test_hadamard(Rig& rig, ferrule_hadamard_fn* kernel) {
  Random& random = rig.random;
  const size_t orders[] = {1, 1, 1, 12, 20, 28, 36, 60};
  const size_t order = orders[random.integer(0, 7)];
  // Long rows are rare, so that the run stays short.
  const int64_t most = order > 1 ? 6 : random.chance(100) ? 15 : 10;
  const size_t width = order << random.integer(0, most);
  const size_t rows = width > 2048 ? 1 : random.size(4), stride = width + random.size(3);
  const bool in_place = random.chance(3), transposed = random.chance(2);
  rig.describe("rows %zu width %zu stride %zu in place %d transposed %d", rows, width, stride, in_place,
               transposed);

  Buffer<float> input = draw_normal(random, rows * stride), output(random, rows * stride);
  Buffer<float> want = in_place ? input : output;
  const float scale = random.chance(3) ? 1.0f : 1 / sqrtf(static_cast<float>(width));
  ferrule_hadamard_args args = {input.data(), want.data(), stride, stride, rows, width, scale, transposed};
  ferrule_hadamard_scalar(&args, 0, rows, nullptr);
  args.output = in_place ? input.data() : output.data();
  kernel(&args, 0, rows, nullptr);

  const Buffer<float>& got = in_place ? input : output;
  const float size = scale * sqrtf(static_cast<float>(width));  // of a typical result
  rig.expect_close("output", got.data(), want.data(), want.size(), 4e-6f * size, 0);
  rig.expect(got.intact(), "wrote past its output");
}

namespace {

bool refuses() {
  float x[2] = {1, 2};
  const ferrule_hadamard_args good = {x, x, 2, 2, 1, 2, 1.0f, 0};
  const auto is = [&good](ferrule_status status, auto change) {
    ferrule_hadamard_args args = good;
    change(args);
    return ferrule_hadamard(&args, nullptr, nullptr) == status;
  };
  using Args = ferrule_hadamard_args;
  return is(FERRULE_OK, [](Args&) {}) &&
         is(FERRULE_OK, [](Args& args) { args.rows = 0, args.output = nullptr; }) &&
         is(FERRULE_OK, [](Args& args) { args.width = 0; }) &&
         is(FERRULE_BAD_SHAPE,
            [](Args& args) { args.width = 24 * 7, args.input_stride = args.output_stride = 200; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.width = size_t{1} << 40; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.input = nullptr; }) &&
         is(FERRULE_BAD_VALUE, [](Args& args) { args.scale = NAN; }) &&
         is(FERRULE_BAD_LAYOUT, [](Args& args) { args.output_stride = 1; }) &&
         is(FERRULE_TOO_LARGE, [](Args& args) { args.rows = SIZE_MAX / 4; });
}

// H and its transpose undo each other: that the matrices are orthogonal.
bool is_orthogonal(size_t width) {
  Random random(width);
  const Buffer<float> input = draw_normal(random, width);
  Buffer<float> output(random, width);
  const float scale = 1 / sqrtf(static_cast<float>(width));
  ferrule_hadamard_args args = {input.data(), output.data(), width, width, 1, width, scale, 0};
  bool ok = ferrule_hadamard(&args, nullptr, nullptr) == FERRULE_OK;
  args.input = output.data();
  args.transposed = 1;
  ok = ferrule_hadamard(&args, nullptr, nullptr) == FERRULE_OK && ok;
  for (size_t i = 0; i < width; ++i) ok = ok && fabsf(output[i] - input[i]) < 1e-5f;
  return ok;
}

}  // namespace

bool hadamard_op_passes() {
  Random random(1);
  const size_t rows = 21, width = 4096;
  Buffer<float> input = draw_normal(random, rows * width), want(random, rows * width),
                got(random, rows * width);
  ferrule_hadamard_args args = {input.data(), want.data(), width, width, rows, width, 1.0f / 64, 0};
  if (ferrule_hadamard(&args, nullptr, nullptr) != FERRULE_OK) return false;
  args.output = got.data();
  ferrule_pool* pool = ferrule_pool_create(3);
  bool ok = ferrule_hadamard(&args, nullptr, pool) == FERRULE_OK &&
            memcmp(got.data(), want.data(), rows * width * sizeof(float)) == 0;
  ferrule_pool_destroy(pool);
  for (const size_t order : {size_t{1}, size_t{12}, size_t{20}, size_t{28}, size_t{36}, size_t{60}}) {
    for (size_t power = 1; power <= 64; power *= 2) ok = ok && is_orthogonal(order * power);
  }
  return ok && refuses();
}

}  // namespace ferrule::tests
