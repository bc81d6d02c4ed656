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

}  // namespace ferrule::tests
