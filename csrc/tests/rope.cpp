#include <vector>

#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

void test_rope(Rig& rig, ferrule_rope_fn* kernel) {
  Random& random = rig.random;
  ferrule_rope_args args = {};
  args.pairs = static_cast<int>(random.integer(0, FERRULE_ROPE_NEIGHBOURS));
  args.tokens = random.size(5);
  args.heads = random.size(4);
  args.width = random.size(100);
  args.rotary = random.chance(2) ? args.width / 2 * 2 : random.size(args.width) / 2 * 2;
  args.table_rows = args.tokens + random.size(5) + 1;
  args.first_position =
      static_cast<size_t>(random.integer(0, static_cast<int64_t>(args.table_rows - args.tokens)));
  const bool in_place = random.chance(2), listed = random.chance(2);
  args.input_head_stride = args.output_head_stride = args.width + random.size(3);
  args.input_token_stride = args.output_token_stride = args.heads * args.input_head_stride + random.size(3);
  rig.describe("pairs %d tokens %zu heads %zu width %zu rotary %zu in place %d", args.pairs, args.tokens,
               args.heads, args.width, args.rotary, in_place);

  const size_t count = args.tokens * args.input_token_stride;
  Buffer<float> input = draw_normal(random, count), output(random, count);
  const Buffer<float> cosines = draw_normal(random, args.table_rows * args.rotary / 2);
  const Buffer<float> sines = draw_normal(random, args.table_rows * args.rotary / 2);
  std::vector<int32_t> positions(args.tokens);
  for (int32_t& position : positions)
    position = static_cast<int32_t>(random.integer(0, static_cast<int64_t>(args.table_rows) - 1));
  Buffer<float> want = in_place ? input : output;
  args.input = in_place ? want.data() : input.data();
  args.output = want.data();
  args.cosines = cosines.data();
  args.sines = sines.data();
  args.positions = listed ? positions.data() : nullptr;
  ferrule_rope_scalar(&args, 0, args.tokens, nullptr);
  args.input = input.data();
  args.output = in_place ? input.data() : output.data();
  kernel(&args, 0, args.tokens, nullptr);
  const Buffer<float>& got = in_place ? input : output;
  rig.expect_close("output", got.data(), want.data(), want.size(), 1e-6f, 1e-6f);
  rig.expect(got.intact(), "wrote past its output");
}

void test_rope_tables(Rig& rig, ferrule_rope_tables_fn* kernel) {
  Random& random = rig.random;
  const size_t rows = random.size(4), half = random.size(20);
  const size_t first = static_cast<size_t>(random.integer(0, 100000));
  Buffer<float> cosines(random, rows * half), sines(random, rows * half);
  const ferrule_rope_tables_args args = {nullptr, nullptr, cosines.data(), sines.data(), rows, half, first,
                                         10000,   1};
  rig.describe("rows %zu half %zu first %zu", rows, half, first);
  kernel(&args, 0, rows, nullptr);
  for (size_t i = 0; i < rows * half; ++i) {
    const double angle = static_cast<double>(first + i / half) *
                         exp(-log(10000.0) * static_cast<double>(i % half) / static_cast<double>(half));
    const float want[] = {static_cast<float>(cos(angle)), static_cast<float>(sin(angle))};
    rig.expect_close("cosine", &cosines[i], &want[0], 1, 1e-6f, 0);
    rig.expect_close("sine", &sines[i], &want[1], 1, 1e-6f, 0);
  }
  rig.expect(cosines.intact() && sines.intact(), "wrote past its output");
}

namespace {

ferrule_rope_args good_args(float* x, const float* table) {
  ferrule_rope_args args = {};
  args.input = args.output = x;
  args.cosines = args.sines = table;
  args.input_head_stride = args.output_head_stride = args.width = args.rotary = 4;
  args.input_token_stride = args.output_token_stride = 8;
  args.tokens = args.heads = 2;
  args.table_rows = 3;
  return args;
}

bool refuses() {
  float x[16] = {}, table[6] = {};
  const int32_t beyond[] = {0, 3}, below[] = {-1, 0};
  const ferrule_rope_args good = good_args(x, table);
  auto status = [&](auto change) {
    ferrule_rope_args args = good;
    change(args);
    return ferrule_rope(&args, nullptr, nullptr);
  };
  return ferrule_rope(&good, nullptr, nullptr) == FERRULE_OK &&
         ferrule_rope(&good, "none such", nullptr) == FERRULE_BAD_ISA &&
         status([](auto& a) { a.pairs = 7; }) == FERRULE_BAD_TYPE &&
         status([](auto& a) { a.rotary = 3; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.rotary = 6; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.sines = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.input_head_stride = 3; }) == FERRULE_BAD_LAYOUT &&
         status([](auto& a) { a.output_token_stride = 3; }) == FERRULE_BAD_LAYOUT &&
         status([](auto& a) { a.input_token_stride = SIZE_MAX; }) == FERRULE_TOO_LARGE &&
         status([](auto& a) { a.first_position = 2; }) == FERRULE_BAD_VALUE &&
         status([&](auto& a) { a.positions = beyond; }) == FERRULE_BAD_VALUE &&
         status([&](auto& a) { a.positions = below; }) == FERRULE_BAD_VALUE &&
         status([](auto& a) { a.tokens = 0, a.input = nullptr; }) == FERRULE_OK;
}

bool tables_refuse() {
  float x[4] = {};
  const double frequencies[] = {1, static_cast<double>(NAN)};
  const ferrule_rope_tables_args good = {nullptr, nullptr, x, x, 2, 2, 0, 10000, 1};
  auto status = [&](auto change) {
    ferrule_rope_tables_args args = good;
    change(args);
    return ferrule_rope_tables(&args, nullptr, nullptr);
  };
  return ferrule_rope_tables(&good, nullptr, nullptr) == FERRULE_OK &&
         ferrule_rope_tables(&good, "none such", nullptr) == FERRULE_BAD_ISA &&
         status([](auto& a) { a.cosines = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.theta = 0; }) == FERRULE_BAD_VALUE &&
         status([&](auto& a) { a.frequencies = frequencies; }) == FERRULE_BAD_VALUE &&
         status([](auto& a) { a.magnitude = HUGE_VAL; }) == FERRULE_BAD_VALUE &&
         status([](auto& a) { a.rows = SIZE_MAX / 4; }) == FERRULE_TOO_LARGE;
}

}  // namespace

bool rope_op_passes() {
  constexpr size_t kTokens = 600, kHeads = 3, kWidth = 32;
  std::vector<float> cosines(kTokens * kWidth / 2), sines(cosines.size());
  ferrule_pool* pool = ferrule_pool_create(3);
  if (!pool) return false;
  const ferrule_rope_tables_args tables = {
      nullptr, nullptr, cosines.data(), sines.data(), kTokens, kWidth / 2, 0, 10000, 1};
  bool ok = refuses() && tables_refuse() && ferrule_rope_tables(&tables, nullptr, pool) == FERRULE_OK;
  Random random(5);
  const Buffer<float> input = draw_normal(random, kTokens * kHeads * kWidth);
  std::vector<float> alone(input.size()), divided(input.size());
  ferrule_rope_args args = good_args(alone.data(), cosines.data());
  args.input = input.data();
  args.sines = sines.data();
  args.input_head_stride = args.output_head_stride = args.width = args.rotary = kWidth;
  args.input_token_stride = args.output_token_stride = kHeads * kWidth;
  args.tokens = args.table_rows = kTokens;
  args.heads = kHeads;
  ok = ok && ferrule_rope(&args, nullptr, nullptr) == FERRULE_OK;
  args.output = divided.data();
  ok = ok && ferrule_rope(&args, nullptr, pool) == FERRULE_OK && alone == divided;
  ferrule_pool_destroy(pool);
  return ok;
}

}  // namespace ferrule::tests
