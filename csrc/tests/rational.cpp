#include "ferrule/rational.h"

#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

namespace {

// Now and then values that leave the usual range.
float draw_input(Random& random) {
  const float special[] = {0.0f, -0.0f, NAN, INFINITY, -INFINITY, 1e-30f, 1000.0f, -1e5f};
  return random.chance(40) ? special[random.integer(0, 7)] : 3 * random.normal();
}

// The sum of the magnitudes of P's terms over Q, of which a rounding error is a fraction.
float condition(float x, const float* a, const float* b, int form) {
  float magnitudes[FERRULE_RATIONAL_NUMERATOR], result = 0;
  for (size_t i = 0; i < FERRULE_RATIONAL_NUMERATOR; ++i) magnitudes[i] = fabsf(a[i]);
  const ferrule_rational_args args = {&x, magnitudes, b, &result, 1, 1, 0, 0, 1, 1, 1, form};
  x = fabsf(x);
  if (form == FERRULE_RATIONAL_TERMS) {
    ferrule_rational_scalar(&args, 0, 1, nullptr);
    return result;
  }
  // The denominator's own sum may cancel, to no less than one.
  float p = 0, power = 1;
  for (size_t i = 0; i < FERRULE_RATIONAL_NUMERATOR; ++i, power *= x) p += magnitudes[i] * power;
  float q = 0;
  power = x;
  for (size_t i = 0; i < FERRULE_RATIONAL_DENOMINATOR; ++i, power *= x) q += fabsf(b[i]) * power;
  return p * (1 + q);
}

}  // namespace

void test_rational(Rig& rig, ferrule_rational_fn* kernel) {
  Random& random = rig.random;
  const auto form = random.chance(2) ? FERRULE_RATIONAL_TERMS : FERRULE_RATIONAL_SUM;
  const size_t rows = random.size(4), groups = static_cast<size_t>(random.integer(1, 5)),
               share = random.size(50);
  const size_t width = groups * share, stride = width + random.size(3);
  const size_t a_stride = random.chance(3) ? 0 : 6 + random.size(2),
               b_stride = random.chance(3) ? 0 : 4 + random.size(2);
  const bool in_place = random.chance(4);
  rig.describe("form %d rows %zu groups %zu of %zu stride %zu, %zu, %zu in place %d", form, rows, groups,
               share, stride, a_stride, b_stride, in_place);

  Buffer<float> input(random, rows * stride), output(random, rows * stride);
  for (size_t i = 0; i < input.size(); ++i) input[i] = draw_input(random);
  const Buffer<float> original = input;
  const Buffer<float> numerator = draw_normal(random, groups * a_stride + 6);
  const Buffer<float> denominator = draw_normal(random, groups * b_stride + 4);
  Buffer<float> want = in_place ? input : output;

  ferrule_rational_args args = {input.data(), numerator.data(), denominator.data(),
                                want.data(),  stride,           stride,
                                a_stride,     b_stride,         rows,
                                width,        groups,           form};
  ferrule_rational_scalar(&args, 0, rows, nullptr);
  args.output = in_place ? input.data() : output.data();
  kernel(&args, 0, rows, nullptr);

  const Buffer<float>& got = in_place ? input : output;
  for (size_t i = 0; i < got.size() && !rig.failed(); ++i) {
    float absolute = 0;
    if (i % stride < width) {
      const size_t g = i % stride / share;
      const float* b = denominator.data() + g * b_stride;
      absolute = 1e-6f * condition(original[i], numerator.data() + g * a_stride, b, form);
    }
    rig.expect_close("output", got.data() + i, want.data() + i, 1, isnan(absolute) ? 0 : absolute, 2e-6f);
  }
  rig.expect(got.intact(), "wrote past its output");
}

namespace {

bool refuses() {
  float x = 1, a[6] = {}, b[4] = {};
  const ferrule_rational_args good = {&x, a, b, &x, 1, 1, 0, 0, 1, 1, 1, FERRULE_RATIONAL_TERMS};
  const auto is = [&good](ferrule_status status, auto change) {
    ferrule_rational_args args = good;
    change(args);
    return ferrule_rational(&args, nullptr, nullptr) == status;
  };
  using Args = ferrule_rational_args;
  return is(FERRULE_OK, [](Args&) {}) &&
         is(FERRULE_OK, [](Args& args) { args.rows = 0, args.input = nullptr; }) &&
         is(FERRULE_BAD_TYPE, [](Args& args) { args.form = 7; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.input = nullptr; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.denominator = nullptr; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.groups = 0; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.groups = 2; }) &&
         is(FERRULE_BAD_LAYOUT, [](Args& args) { args.output_stride = 0; }) &&
         is(FERRULE_BAD_LAYOUT, [](Args& args) { args.numerator_stride = 5; }) &&
         is(FERRULE_BAD_LAYOUT, [](Args& args) { args.denominator_stride = 3; }) &&
         is(FERRULE_TOO_LARGE, [](Args& args) { args.rows = SIZE_MAX / 2, args.input_stride = 3; });
}

}  // namespace

bool rational_op_passes() {
  Random random(1);
  const size_t rows = 37, width = 960, groups = 4;
  Buffer<float> input = draw_normal(random, rows * width), want(random, rows * width),
                got(random, rows * width);
  const Buffer<float> numerator = draw_normal(random, groups * 6),
                      denominator = draw_normal(random, groups * 4);
  ferrule_rational_args args = {
      input.data(), numerator.data(), denominator.data(),    want.data(), width, width, 6, 4, rows,
      width,        groups,           FERRULE_RATIONAL_TERMS};
  if (ferrule_rational(&args, nullptr, nullptr) != FERRULE_OK) return false;
  args.output = got.data();
  ferrule_pool* pool = ferrule_pool_create(3);
  const bool same = ferrule_rational(&args, nullptr, pool) == FERRULE_OK &&
                    memcmp(got.data(), want.data(), rows * width * sizeof(float)) == 0;
  ferrule_pool_destroy(pool);
  return same && refuses();
}

}  // namespace ferrule::tests
