#include "bench/bench.h"
#include "kernels/declarations.h"

namespace ferrule::bench {
namespace {

void time_shape(Bench& bench, ferrule_softmax_fn* kernel, size_t rows, size_t width, bool masked,
                bool logarithm) {
  const std::vector<float> input = draw_floats(rows * width), mask = draw_floats(width, 2);
  std::vector<float> output(rows * width);
  ferrule_softmax_args args = {};
  args.input = input.data();
  args.mask = masked ? mask.data() : nullptr;
  args.output = output.data();
  args.input_stride = args.output_stride = width;
  args.rows = rows;
  args.width = width;
  args.scale = masked ? 0.125f : 1;
  args.logarithm = logarithm;
  const std::string shape = std::to_string(rows) + " x " + std::to_string(width) +
                            (masked      ? " scaled, masked"
                             : logarithm ? " logarithm"
                                         : "");
  bench.time(shape, {0, 0, 8.0 * static_cast<double>(rows * width)},
             [&](size_t) { kernel(&args, 0, rows, nullptr); });
}

}  // namespace

void bench_softmax(Bench& bench, ferrule_softmax_fn* kernel) {
  time_shape(bench, kernel, 128, 768, false, false);
  time_shape(bench, kernel, 197, 768, false, false);
  time_shape(bench, kernel, 512, 576, false, false);
  time_shape(bench, kernel, 128, 768, false, true);
  time_shape(bench, kernel, 12 * 128, 128, true, false);  // the scores of MiniLM's heads
  time_shape(bench, kernel, 12 * 197, 197, true, false);  // and of ViT-B's
  time_shape(bench, kernel, 1, 49152, false, true);       // a vocabulary
}

}  // namespace ferrule::bench
