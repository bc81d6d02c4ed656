#include <vector>

#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {
namespace {

size_t bytes_of_row(int kind, size_t width) {
  switch (kind) {
    case FERRULE_EMBEDDING_F32:
      return 4 * width;
    case FERRULE_EMBEDDING_I8:
      return width;
    case FERRULE_EMBEDDING_LUT2:
      return (width + 3) / 4;
  }
  return (width + 1) / 2;
}

}  // namespace

void test_embedding(Rig& rig, ferrule_embedding_fn* kernel) {
  Random& random = rig.random;
  ferrule_embedding_args args = {};
  args.kind = static_cast<int>(random.integer(0, FERRULE_EMBEDDING_LUT2));
  args.index_bytes = random.chance(2) ? 4 : 8;
  args.rows = random.size(12) + 1;
  args.width = random.size(150);
  args.count = random.size(5);
  args.group = random.chance(2) ? 0 : 16 * static_cast<size_t>(random.integer(1, 4));
  args.palette_rows = random.chance(2) ? 0 : random.size(4) + 1;
  args.output_stride = args.width + random.size(3);
  args.output_scale = random.chance(2) ? 1 : 3;
  rig.describe("kind %d rows %zu width %zu count %zu group %zu palette rows %zu", args.kind, args.rows,
               args.width, args.count, args.group, args.palette_rows);

  const size_t bytes = args.rows * bytes_of_row(args.kind, args.width);
  Buffer<int8_t> codes = draw_codes(random, args.kind == FERRULE_EMBEDDING_F32 ? 0 : bytes);
  const Buffer<float> floats = draw_normal(random, args.kind == FERRULE_EMBEDDING_F32 ? bytes / 4 : 0);
  const size_t groups = args.group ? (args.width + args.group - 1) / args.group : 1;
  const Buffer<float> scales = draw_normal(random, args.rows * groups);
  const Buffer<float> palettes = draw_normal(random, args.rows * 16);
  std::vector<int32_t> narrow(args.count);
  std::vector<int64_t> wide(args.count);
  for (size_t n = 0; n < args.count; ++n)
    wide[n] = narrow[n] = static_cast<int32_t>(random.integer(0, static_cast<int64_t>(args.rows) - 1));
  Buffer<float> got(random, args.count * args.output_stride);
  Buffer<float> want = got;
  args.table = args.kind == FERRULE_EMBEDDING_F32 ? static_cast<const void*>(floats.data()) : codes.data();
  const bool may_lack = args.kind >= FERRULE_EMBEDDING_LUT4;
  args.scales = may_lack && random.chance(2) ? nullptr : scales.data();
  args.palettes = palettes.data();
  args.indices = args.index_bytes == 4 ? static_cast<const void*>(narrow.data()) : wide.data();

  args.output = want.data();
  ferrule_embedding_scalar(&args, 0, args.count, nullptr);
  args.output = got.data();
  kernel(&args, 0, args.count, nullptr);
  rig.expect_close("output", got.data(), want.data(), want.size(), 0, 0);
  rig.expect(got.intact(), "wrote past its output");
}

namespace {

bool refuses() {
  float x[8] = {}, scales[2] = {1, 1};
  const int8_t table[8] = {};
  const int32_t indices[] = {1, 0}, beyond[] = {0, 2};
  const int64_t below[] = {0, -1};
  ferrule_embedding_args good = {};
  good.kind = FERRULE_EMBEDDING_I8;
  good.index_bytes = 4;
  good.table = table;
  good.scales = scales;
  good.indices = indices;
  good.output = x;
  good.output_stride = good.width = 4;
  good.count = good.rows = 2;
  good.output_scale = 1;
  auto status = [&](auto change) {
    ferrule_embedding_args args = good;
    change(args);
    return ferrule_embedding(&args, nullptr, nullptr);
  };
  return ferrule_embedding(&good, nullptr, nullptr) == FERRULE_OK &&
         ferrule_embedding(&good, "none such", nullptr) == FERRULE_BAD_ISA &&
         status([](auto& a) { a.kind = 9; }) == FERRULE_BAD_TYPE &&
         status([](auto& a) { a.index_bytes = 2; }) == FERRULE_BAD_TYPE &&
         status([](auto& a) { a.table = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.scales = nullptr; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.kind = FERRULE_EMBEDDING_LUT2; }) == FERRULE_BAD_SHAPE &&
         status([](auto& a) { a.group = 3; }) == FERRULE_BAD_LAYOUT &&
         status([](auto& a) { a.output_stride = 3; }) == FERRULE_BAD_LAYOUT &&
         status([](auto& a) { a.output_scale = NAN; }) == FERRULE_BAD_VALUE &&
         status([&](auto& a) { a.indices = beyond; }) == FERRULE_BAD_VALUE &&
         status([&](auto& a) { a.indices = below, a.index_bytes = 8; }) == FERRULE_BAD_VALUE &&
         status([](auto& a) { a.rows = SIZE_MAX / 4; }) == FERRULE_TOO_LARGE &&
         status([](auto& a) { a.count = 0, a.output = nullptr; }) == FERRULE_OK;
}

bool same_with_a_pool() {
  constexpr size_t kRows = 50, kWidth = 301, kCount = 400;
  Random random(5);
  const Buffer<float> table = draw_normal(random, kRows * kWidth);
  std::vector<int64_t> indices(kCount);
  for (int64_t& index : indices) index = random.integer(0, kRows - 1);
  std::vector<float> alone(kCount * kWidth), divided(alone.size());
  ferrule_embedding_args args = {};
  args.index_bytes = 8;
  args.table = table.data();
  args.indices = indices.data();
  args.output = alone.data();
  args.output_stride = args.width = kWidth;
  args.count = kCount;
  args.rows = kRows;
  args.output_scale = 1;
  ferrule_pool* pool = ferrule_pool_create(3);
  if (!pool) return false;
  bool same = ferrule_embedding(&args, nullptr, nullptr) == FERRULE_OK;
  args.output = divided.data();
  same = same && ferrule_embedding(&args, nullptr, pool) == FERRULE_OK && alone == divided;
  ferrule_pool_destroy(pool);
  return same;
}

}  // namespace

bool embedding_op_passes() { return refuses() && same_with_a_pool(); }

}  // namespace ferrule::tests
