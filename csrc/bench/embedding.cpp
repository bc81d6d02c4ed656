#include "bench/bench.h"
#include "kernels/declarations.h"

namespace ferrule::bench {
namespace {

// 128 rows, other ones in each round, of a table the size of MiniLM's vocabulary.
void time_kind(Bench& bench, ferrule_embedding_fn* kernel, const char* name, int kind, size_t group,
               size_t bits) {
  constexpr size_t kRows = 30522, kWidth = 384, kCount = 128, kRounds = 64;
  const std::vector<uint8_t> table = draw_bytes(kRows * kWidth * bits / 8);
  const std::vector<float> scales(kRows * (group ? kWidth / group : 1), 0.01f), palette = draw_floats(16);
  const std::vector<uint8_t> chosen = draw_bytes(kCount * kRounds * 2, 3);
  std::vector<int32_t> indices(kCount * kRounds);
  for (size_t i = 0; i < indices.size(); ++i) indices[i] = (chosen[2 * i] * 256 + chosen[2 * i + 1]) % kRows;
  std::vector<float> output(kCount * kWidth);
  ferrule_embedding_args args = {};
  args.kind = kind;
  args.index_bytes = 4;
  args.table = table.data();
  args.scales = scales.data();
  args.palettes = palette.data();
  args.output = output.data();
  args.group = group;
  args.output_stride = args.width = kWidth;
  args.count = kCount;
  args.rows = kRows;
  args.output_scale = 1;
  bench.time(std::string("128 x 384 ") + name, {0, 0, kCount * kWidth * (static_cast<double>(bits) / 8 + 4)},
             [&](size_t round) {
               args.indices = indices.data() + round % kRounds * kCount;
               kernel(&args, 0, kCount, nullptr);
             });
}

}  // namespace

void bench_embedding(Bench& bench, ferrule_embedding_fn* kernel) {
  time_kind(bench, kernel, "fp32", FERRULE_EMBEDDING_F32, 0, 32);
  time_kind(bench, kernel, "int8 row", FERRULE_EMBEDDING_I8, 0, 8);
  time_kind(bench, kernel, "int4 group 32", FERRULE_EMBEDDING_I4, 32, 4);
  time_kind(bench, kernel, "palette 4 bit", FERRULE_EMBEDDING_LUT4, 0, 4);
  time_kind(bench, kernel, "palette 2 bit", FERRULE_EMBEDDING_LUT2, 0, 2);
}

}  // namespace ferrule::bench
