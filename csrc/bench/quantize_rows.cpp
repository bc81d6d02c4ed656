#include "bench/bench.h"
#include "kernels/declarations.h"

namespace ferrule::bench {

void bench_quantize_rows(Bench& bench, ferrule_quantize_rows_fn* kernel) {
  for (const size_t width : {768, 2048}) {
    const size_t rows = 128;
    const std::vector<float> input = draw_floats(rows * width);
    std::vector<uint8_t> codes(rows * width);
    std::vector<float> scales(rows);
    std::vector<int32_t> zeros(rows);
    ferrule_quantize_rows_args args = {};
    args.input = input.data();
    args.codes = codes.data();
    args.scales = scales.data();
    args.zeros = zeros.data();
    args.input_stride = args.codes_stride = args.width = args.padded = width;
    args.rows = rows;
    const double bytes = 5.0 * static_cast<double>(rows * width);
    bench.time("128 x " + std::to_string(width), {0, 0, bytes},
               [&](size_t) { kernel(&args, 0, rows, nullptr); });
  }
}

}  // namespace ferrule::bench
