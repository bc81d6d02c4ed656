#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

namespace {

// Normal values; some rows of halves, so that quotients are ties, some constant, some with huge, tiny or no
// numbers.
void draw_row(Random& random, float* row, size_t width) {
  const int kind = static_cast<int>(random.integer(0, 9));
  for (size_t i = 0; i < width; ++i) {
    row[i] = random.normal() * 3;
    if (kind == 0) row[i] = static_cast<float>(random.integer(0, 510)) * 0.5f;
    if (kind == 1) row[i] = fabsf(row[i]);
    if (kind == 2) row[i] = -fabsf(row[i]) * 1e-30f;
    if (kind == 3) row[i] = 0;
    if (kind == 4) row[i] *= 1e20f;
    if (kind == 5 && random.chance(30)) row[i] = random.chance(2) ? NAN : -INFINITY;
  }
  if (kind == 0 && width > 1) row[random.integer(0, static_cast<int64_t>(width) - 1)] = 255;
}

}  // namespace

void test_quantize_rows(Rig& rig, ferrule_quantize_rows_fn* kernel) {
  Random& random = rig.random;
  const size_t rows = random.size(4), width = random.size(150), padded = width + random.size(8);
  const size_t input_stride = width + random.size(3), codes_stride = padded + random.size(3);
  rig.describe("rows %zu width %zu padded %zu", rows, width, padded);

  Buffer<float> input(random, rows * input_stride);
  for (size_t r = 0; r < rows; ++r) draw_row(random, input.data() + r * input_stride, width);
  Buffer<int8_t> codes(random, rows * codes_stride, 77), want_codes = codes;
  Buffer<float> scales(random, rows), want_scales = scales;
  Buffer<int32_t> zeros(random, rows), want_zeros = zeros;

  ferrule_quantize_rows_args args = {};
  args.input = input.data();
  args.input_stride = input_stride;
  args.codes_stride = codes_stride;
  args.rows = rows;
  args.width = width;
  args.padded = padded;
  args.is_signed = random.chance(2);
  if (random.chance(2)) {
    args.range_scale = random.uniform(0.01f, 0.1f);
    args.range_zero = static_cast<int32_t>(random.integer(-128, 127));
  }
  args.codes = want_codes.data();
  args.scales = want_scales.data();
  args.zeros = want_zeros.data();
  ferrule_quantize_rows_scalar(&args, 0, rows, nullptr);
  args.codes = codes.data();
  args.scales = scales.data();
  args.zeros = zeros.data();
  kernel(&args, 0, rows, nullptr);

  rig.expect_close("scales", scales.data(), want_scales.data(), rows, 0, 0);
  for (size_t r = 0; r < rows; ++r) {
    if (want_scales[r] != want_scales[r]) continue;  // codes of a row that is not a number mean nothing
    rig.expect(zeros[r] == want_zeros[r], "zero point differs");
    rig.expect_codes("codes", codes.data() + r * codes_stride, want_codes.data() + r * codes_stride, padded);
  }
  rig.expect(codes.intact() && scales.intact() && zeros.intact(), "wrote past its output");
}

namespace {

// Rows for the op, with arguments that the tests below spoil.
struct Rows {
  explicit Rows(size_t count)
      : input(draw_normal(random, count * 40)),
        codes(random, count * 48),
        scales(random, count),
        zeros(random, count) {
    args.input = input.data();
    args.codes = codes.data();
    args.scales = scales.data();
    args.zeros = zeros.data();
    args.input_stride = 40;
    args.codes_stride = 48;
    args.rows = count;
    args.width = 37;
    args.padded = 44;
  }

  Random random{3};
  Buffer<float> input;
  Buffer<int8_t> codes;
  Buffer<float> scales;
  Buffer<int32_t> zeros;
  ferrule_quantize_rows_args args = {};
};

bool agrees(ferrule_pool* pool) {
  Rows got(3000), want(3000);
  if (ferrule_quantize_rows(&got.args, nullptr, pool) != FERRULE_OK) return false;
  ferrule_quantize_rows_scalar(&want.args, 0, 3000, nullptr);
  return memcmp(got.codes.data(), want.codes.data(), got.codes.size()) == 0 &&
         memcmp(got.scales.data(), want.scales.data(), 3000 * sizeof(float)) == 0 &&
         memcmp(got.zeros.data(), want.zeros.data(), 3000 * sizeof(int32_t)) == 0;
}

ferrule_status run_with(void (*spoil)(ferrule_quantize_rows_args&)) {
  Rows rows(2);
  spoil(rows.args);
  return ferrule_quantize_rows(&rows.args, nullptr, nullptr);
}

bool refuses() {
  using Args = ferrule_quantize_rows_args;
  return run_with([](Args& a) { a.rows = 0, a.input = nullptr; }) == FERRULE_OK &&
         run_with([](Args& a) { a.input = nullptr; }) == FERRULE_BAD_SHAPE &&
         run_with([](Args& a) { a.zeros = nullptr; }) == FERRULE_BAD_SHAPE &&
         run_with([](Args& a) { a.padded = 36; }) == FERRULE_BAD_SHAPE &&
         run_with([](Args& a) { a.input_stride = 36; }) == FERRULE_BAD_LAYOUT &&
         run_with([](Args& a) { a.codes_stride = 43; }) == FERRULE_BAD_LAYOUT &&
         run_with([](Args& a) { a.range_scale = NAN; }) == FERRULE_BAD_VALUE &&
         run_with([](Args& a) { a.range_scale = 1e-40f; }) == FERRULE_BAD_VALUE &&
         run_with([](Args& a) { a.range_zero = 128; }) == FERRULE_BAD_VALUE &&
         run_with([](Args& a) { a.rows = SIZE_MAX / 2; }) == FERRULE_TOO_LARGE;
}

}  // namespace

bool quantize_rows_op_passes() {
  ferrule_pool* pool = ferrule_pool_create(3);
  const bool ok = agrees(nullptr) && agrees(pool) && refuses();
  ferrule_pool_destroy(pool);
  return ok;
}

}  // namespace ferrule::tests
