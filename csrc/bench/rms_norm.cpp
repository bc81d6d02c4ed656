#include "bench/bench.h"
#include "kernels/declarations.h"

namespace ferrule::bench {
namespace {

void time_shape(Bench& bench, ferrule_rms_norm_fn* kernel, size_t rows, size_t width, bool residual) {
  const std::vector<float> input = draw_floats(rows * width), weight = draw_floats(width);
  std::vector<float> output(rows * width), sum = draw_floats(rows * width);
  ferrule_rms_norm_args args = {};
  args.input = input.data();
  args.weight = weight.data();
  args.output = output.data();
  args.input_stride = args.output_stride = args.residual_stride = args.sum_stride = width;
  args.rows = rows;
  args.width = width;
  args.epsilon = 1e-5f;
  const double bytes = 8.0 * static_cast<double>(rows * width);
  const std::string shape = std::to_string(rows) + " x " + std::to_string(width);
  if (!residual) return bench.time(shape, {0, 0, bytes}, [&](size_t) { kernel(&args, 0, rows, nullptr); });
  args.residual = args.sum = sum.data();
  bench.time(shape + " residual", {0, 0, 2 * bytes}, [&](size_t) { kernel(&args, 0, rows, nullptr); });
}

}  // namespace

void bench_rms_norm(Bench& bench, ferrule_rms_norm_fn* kernel) {
  time_shape(bench, kernel, 128, 384, false);
  time_shape(bench, kernel, 128, 768, false);
  time_shape(bench, kernel, 197, 768, false);
  time_shape(bench, kernel, 512, 576, false);
  time_shape(bench, kernel, 128, 768, true);
}

}  // namespace ferrule::bench
