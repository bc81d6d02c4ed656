#include "bench/bench.h"
#include "kernels/declarations.h"

namespace ferrule::bench {

void bench_rational(Bench& bench, ferrule_rational_fn* kernel) {
  const size_t rows = 197, width = 3072, groups = 8;
  const std::vector<float> input = draw_floats(rows * width);
  const std::vector<float> numerator = draw_floats(6), denominator = draw_floats(4 * groups);
  std::vector<float> output(rows * width);
  ferrule_rational_args args = {
      input.data(), numerator.data(), denominator.data(),    output.data(), width, width, 0, 4, rows,
      width,        groups,           FERRULE_RATIONAL_TERMS};
  const Work work = {22.0 * rows * width, 0, 8.0 * rows * width};
  bench.time("197 x 3072, 8 groups", work, [&](size_t) { kernel(&args, 0, rows, nullptr); });
  args.form = FERRULE_RATIONAL_SUM;
  bench.time("197 x 3072, 8 groups, sum", work, [&](size_t) { kernel(&args, 0, rows, nullptr); });
}

}  // namespace ferrule::bench
