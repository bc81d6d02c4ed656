#include <stdio.h>

#include <vector>

#include "ferrule/dispatch.h"
#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {
namespace {

struct Bound {
  float absolute, relative;
};

// As ferrule/activate.h states them.
Bound bound_of(int kind) {
  switch (kind) {
    case FERRULE_ACTIVATE_RELU:
    case FERRULE_ACTIVATE_RELU6:
      return {0, 0};
    case FERRULE_ACTIVATE_HARD_SWISH:
      return {3e-7f, 3e-7f};
    case FERRULE_ACTIVATE_GELU:
      return {1e-6f, 3e-7f};
    case FERRULE_ACTIVATE_GELU_TANH:
      return {4e-7f, 4e-7f};
    case FERRULE_ACTIVATE_SILU:
      return {2e-36f, 3e-7f};
    case FERRULE_ACTIVATE_SIGMOID:
      return {3e-38f, 3e-7f};
    case FERRULE_ACTIVATE_TANH:
      return {0, 5e-7f};
    case FERRULE_ACTIVATE_EXP:
      break;
  }
  return {1.5e-45f, 2e-7f};
}

// Every float is as likely as another, but for those of everyday size, which are half of all.
float draw_any(Random& random) {
  if (random.chance(2)) return random.normal() * 4;
  const auto bits = static_cast<uint32_t>(random.bits());
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace

void test_activate(Rig& rig, ferrule_activate_fn* kernel) {
  Random& random = rig.random;
  const size_t rows = random.size(4), width = random.chance(50) ? 5000 : random.size(150);
  const size_t stride = width + random.size(3);
  const auto kind = static_cast<int>(random.integer(0, FERRULE_ACTIVATE_EXP));
  const bool gated = random.chance(3);
  const int64_t place = random.integer(0, gated ? 2 : 1);  // output apart, over the input, over the factor
  rig.describe("kind %d rows %zu width %zu gated %d place %d", kind, rows, width, gated,
               static_cast<int>(place));

  Buffer<float> input(random, rows * stride), factor(random, rows * stride), output(random, rows * stride);
  for (size_t i = 0; i < rows * stride; ++i) {
    input[i] = draw_any(random);
    factor[i] = random.uniform(0.5f, 2);
  }
  Buffer<float>& got = place == 0 ? output : place == 1 ? input : factor;
  Buffer<float> want = got;
  ferrule_activate_args args = {
      kind, input.data(), gated ? factor.data() : nullptr, want.data(), stride, stride, stride, rows, width};
  const size_t units = width ? rows * ((width + FERRULE_ACTIVATE_BLOCK - 1) / FERRULE_ACTIVATE_BLOCK) : 0;
  ferrule_activate_scalar(&args, 0, units, nullptr);
  args.output = got.data();
  const size_t half = units / 2;
  kernel(&args, 0, half, nullptr);
  kernel(&args, half, units, nullptr);
  const Bound bound = bound_of(kind);
  rig.expect_close("output", got.data(), want.data(), want.size(),
                   gated ? 2 * bound.absolute : bound.absolute,
                   gated ? bound.relative + 1.2e-7f : bound.relative);
  rig.expect(got.intact(), "wrote past its output");
}

namespace {

// Every 509th float there is, so that no stretch of the range is left out.
bool holds_over_all_floats(const char* isa, int kind) {
  constexpr size_t kCount = 4096;
  std::vector<float> input(kCount), want(kCount), got(kCount);
  ferrule_activate_args args = {kind, input.data(), nullptr, nullptr, kCount, kCount, kCount, 1, kCount};
  for (uint64_t first = 0; first < (uint64_t{1} << 32); first += 509 * kCount) {
    for (size_t i = 0; i < kCount; ++i) {
      const auto bits = static_cast<uint32_t>(first + 509 * i);
      memcpy(&input[i], &bits, sizeof(bits));
    }
    args.output = want.data();
    ferrule_activate(&args, "scalar", nullptr);
    args.output = got.data();
    ferrule_activate(&args, isa, nullptr);
    Rig rig("activate", isa, 0);
    rig.describe("kind %d, floats from %08llx", kind, static_cast<unsigned long long>(first));
    const Bound bound = bound_of(kind);
    rig.expect_close("output", got.data(), want.data(), kCount, bound.absolute, bound.relative);
    if (rig.failed()) return false;
  }
  return true;
}

bool refuses() {
  float x[4] = {};
  ferrule_activate_args good = {FERRULE_ACTIVATE_RELU, x, nullptr, x, 2, 2, 2, 2, 2};
  auto status = [&](auto change) {
    ferrule_activate_args args = good;
    change(args);
    return ferrule_activate(&args, nullptr, nullptr);
  };
  return ferrule_activate(&good, nullptr, nullptr) == FERRULE_OK &&
         ferrule_activate(&good, "none such", nullptr) == FERRULE_BAD_ISA &&
         status([](auto& a) { a.kind = 99; }) == FERRULE_BAD_TYPE &&
         status([](auto& a) { a.input = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.output = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.output_stride = 1; }) == FERRULE_BAD_LAYOUT &&
         status([](auto& a) { a.rows = SIZE_MAX / 4; }) == FERRULE_TOO_LARGE &&
         status([](auto& a) { a.rows = 0, a.input = nullptr; }) == FERRULE_OK;
}

bool same_with_a_pool() {
  Random random(7);
  const Buffer<float> input = draw_normal(random, 3 * 20000);
  std::vector<float> alone(input.size()), divided(input.size());
  ferrule_activate_args args = {
      FERRULE_ACTIVATE_SILU, input.data(), nullptr, alone.data(), 20000, 20000, 20000, 3, 20000};
  ferrule_pool* pool = ferrule_pool_create(3);
  if (!pool) return false;
  bool same = true;
  for (const size_t width : {20000u, 19999u}) {  // contiguous, and not
    args.width = width;
    args.output = alone.data();
    same = same && ferrule_activate(&args, nullptr, nullptr) == FERRULE_OK;
    args.output = divided.data();
    same = same && ferrule_activate(&args, nullptr, pool) == FERRULE_OK && alone == divided;
  }
  ferrule_pool_destroy(pool);
  return same;
}

}  // namespace

bool activate_op_passes() {
  bool ok = refuses() && same_with_a_pool();
  for (const char* isa : {"avx2", "avx512", "neon"}) {
    if (!is_tested(isa)) continue;
    for (int kind = 0; kind <= FERRULE_ACTIVATE_EXP; ++kind) {
      ok = holds_over_all_floats(isa, kind) && ok;
    }
  }
  return ok;
}

}  // namespace ferrule::tests
