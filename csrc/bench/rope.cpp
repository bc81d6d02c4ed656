#include "bench/bench.h"
#include "kernels/declarations.h"

namespace ferrule::bench {
namespace {

void time_shape(Bench& bench, ferrule_rope_fn* kernel, size_t tokens, size_t heads, size_t width, int pairs) {
  const std::vector<float> cosines = draw_floats(tokens * width / 2),
                           sines = draw_floats(tokens * width / 2, 2);
  std::vector<float> input = draw_floats(tokens * heads * width), output(input.size());
  ferrule_rope_args args = {};
  args.pairs = pairs;
  args.input = input.data();
  args.output = output.data();
  args.cosines = cosines.data();
  args.sines = sines.data();
  args.input_token_stride = args.output_token_stride = heads * width;
  args.input_head_stride = args.output_head_stride = args.width = args.rotary = width;
  args.tokens = args.table_rows = tokens;
  args.heads = heads;
  const std::string shape = std::to_string(tokens) + " x " + std::to_string(heads) + " x " +
                            std::to_string(width) +
                            (pairs == FERRULE_ROPE_HALVES ? " halves" : " neighbours");
  bench.time(shape, {0, 0, 8.0 * static_cast<double>(input.size())},
             [&](size_t) { kernel(&args, 0, tokens, nullptr); });
}

}  // namespace

void bench_rope(Bench& bench, ferrule_rope_fn* kernel) {
  time_shape(bench, kernel, 128, 9, 64, FERRULE_ROPE_HALVES);  // SmolLM2-135M's queries
  time_shape(bench, kernel, 512, 9, 64, FERRULE_ROPE_HALVES);
  time_shape(bench, kernel, 1, 9, 64, FERRULE_ROPE_HALVES);
  time_shape(bench, kernel, 128, 9, 64, FERRULE_ROPE_NEIGHBOURS);
}

void bench_rope_tables(Bench& bench, ferrule_rope_tables_fn* kernel) {
  constexpr size_t kRows = 2048, kHalf = 32;
  std::vector<float> cosines(kRows * kHalf), sines(kRows * kHalf);
  const ferrule_rope_tables_args args = {nullptr, nullptr, cosines.data(), sines.data(), kRows, kHalf, 0,
                                         100000,  1};
  bench.time("2048 x 32", {0, 0, 8.0 * kRows * kHalf}, [&](size_t) { kernel(&args, 0, kRows, nullptr); });
}

}  // namespace ferrule::bench
