#include <math.h>

#include "bench/bench.h"
#include "kernels/declarations.h"

namespace ferrule::bench {

void bench_hadamard(Bench& bench, ferrule_hadamard_fn* kernel) {
  // Hidden and inner widths of SmolLM2-135M, ViT-B and Llama 3 8B, and heads of 64 and 128.
  const struct {
    size_t rows, width;
  } shapes[] = {{128, 4096}, {1, 4096},   {128, 576},  {197, 768}, {128, 1536},
                {16, 14336}, {16, 32768}, {4096, 128}, {1152, 64}};
  for (const auto& shape : shapes) {
    const size_t rows = shape.rows, width = shape.width;
    const std::vector<float> input = draw_floats(rows * width);
    std::vector<float> output(rows * width);
    const float scale = 1 / sqrtf(static_cast<float>(width));
    const ferrule_hadamard_args args = {input.data(), output.data(), width, width, rows, width, scale, 0};
    const std::string name = std::to_string(rows) + " x " + std::to_string(width);
    const Work work = {0, 0, 8.0 * static_cast<double>(rows * width)};
    bench.time(name, work, [&](size_t) { kernel(&args, 0, rows, nullptr); });
    // The transform is orthogonal, so that values keep their size however often it is applied.
    ferrule_hadamard_args again = args;
    again.input = output.data();
    bench.time(name + " in place", work, [&](size_t) { kernel(&again, 0, rows, nullptr); });
  }
}

}  // namespace ferrule::bench
