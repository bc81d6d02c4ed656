#include "bench/bench.h"
#include "kernels/declarations.h"

namespace ferrule::bench {

void bench_layer_norm(Bench& bench, ferrule_layer_norm_fn* kernel) {
  const size_t rows = 128, width = 768;
  const std::vector<float> input = draw_floats(rows * width), weight = draw_floats(width),
                           bias = draw_floats(width);
  std::vector<float> output(rows * width);
  ferrule_layer_norm_args args = {};
  args.input = input.data();
  args.weight = weight.data();
  args.bias = bias.data();
  args.output = output.data();
  args.input_stride = args.output_stride = width;
  args.rows = rows;
  args.width = width;
  args.epsilon = 1e-5f;
  bench.time("128 x 768", {0, 0, 8.0 * rows * width}, [&](size_t) { kernel(&args, 0, rows, nullptr); });
}

}  // namespace ferrule::bench
