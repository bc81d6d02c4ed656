#include <vector>

#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

void test_mean_tokens(Rig& rig, ferrule_mean_tokens_fn* kernel) {
  Random& random = rig.random;
  ferrule_mean_tokens_args args = {};
  args.batch = random.size(3);
  args.tokens = random.size(8);
  args.width = random.size(300);
  args.normalize = random.chance(2);
  args.input_token_stride = args.width + random.size(3);
  args.input_batch_stride = args.tokens * args.input_token_stride + random.size(3);
  args.mask_stride = args.tokens + random.size(3);
  args.output_stride = args.width + random.size(3);
  rig.describe("batch %zu tokens %zu width %zu normalize %d", args.batch, args.tokens, args.width,
               args.normalize);
  const Buffer<float> input = draw_normal(random, args.batch * args.input_batch_stride);
  Buffer<uint8_t> mask(random, args.batch * args.mask_stride);
  const int one_in = static_cast<int>(random.integer(1, 3));
  for (size_t i = 0; i < mask.size(); ++i) mask[i] = random.chance(one_in);
  if (random.chance(8) && mask.size()) memset(mask.data(), 0, mask.size());
  Buffer<float> got(random, args.batch * args.output_stride);
  Buffer<float> want = got;
  args.input = input.data();
  args.mask = random.chance(3) ? nullptr : mask.data();
  args.output = want.data();
  ferrule_mean_tokens_scalar(&args, 0, args.batch, nullptr);
  args.output = got.data();
  kernel(&args, 0, args.batch, nullptr);
  rig.expect_close("output", got.data(), want.data(), want.size(), 1e-6f, 2e-6f);
  rig.expect(got.intact(), "wrote past its output");
}

bool mean_tokens_op_passes() {
  std::vector<float> x(40 * 30 * 64, 1), y(40 * 64), z(40 * 64);
  const uint8_t mask[4] = {1, 1, 1, 1};
  ferrule_mean_tokens_args good = {x.data(), nullptr, y.data(), 30 * 64, 64, 0, 64, 40, 30, 64, 0};
  auto status = [&](auto change) {
    ferrule_mean_tokens_args args = good;
    change(args);
    return ferrule_mean_tokens(&args, nullptr, nullptr);
  };
  ferrule_pool* pool = ferrule_pool_create(3);
  if (!pool) return false;
  bool ok = ferrule_mean_tokens(&good, nullptr, nullptr) == FERRULE_OK;
  ferrule_mean_tokens_args divided = good;
  divided.output = z.data();
  ok = ok && ferrule_mean_tokens(&divided, nullptr, pool) == FERRULE_OK && y == z && z.back() == 1;
  ferrule_pool_destroy(pool);
  return ok && ferrule_mean_tokens(&good, "none such", nullptr) == FERRULE_BAD_ISA &&
         status([](auto& a) { a.input = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.output = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.output_stride = 63; }) == FERRULE_BAD_LAYOUT &&
         status([](auto& a) { a.input_token_stride = 63; }) == FERRULE_BAD_LAYOUT &&
         status([&](auto& a) { a.mask = mask, a.mask_stride = 2; }) == FERRULE_BAD_LAYOUT &&
         status([](auto& a) { a.tokens = SIZE_MAX / 4; }) == FERRULE_TOO_LARGE &&
         status([](auto& a) { a.batch = 0, a.output = nullptr; }) == FERRULE_OK;
}

}  // namespace ferrule::tests
