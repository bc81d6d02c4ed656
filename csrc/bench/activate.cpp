#include "bench/bench.h"
#include "kernels/declarations.h"

namespace ferrule::bench {
namespace {

void time_kind(Bench& bench, ferrule_activate_fn* kernel, const char* name, ferrule_activate_kind kind,
               size_t rows, size_t width, bool gated) {
  const std::vector<float> input = draw_floats(rows * width, 1), factor = draw_floats(rows * width, 2);
  std::vector<float> output(rows * width);
  const ferrule_activate_args args = {
      kind, input.data(), gated ? factor.data() : nullptr, output.data(), width, width, width, rows, width};
  const size_t units = rows * ((width + FERRULE_ACTIVATE_BLOCK - 1) / FERRULE_ACTIVATE_BLOCK);
  const std::string shape = std::string(name) + " " + std::to_string(rows) + " x " + std::to_string(width);
  const double bytes = (gated ? 12.0 : 8.0) * static_cast<double>(rows * width);
  bench.time(shape, {0, 0, bytes}, [&](size_t) { kernel(&args, 0, units, nullptr); });
}

}  // namespace

void bench_activate(Bench& bench, ferrule_activate_fn* kernel) {
  const struct {
    const char* name;
    ferrule_activate_kind kind;
  } kinds[] = {{"relu", FERRULE_ACTIVATE_RELU},
               {"gelu", FERRULE_ACTIVATE_GELU},
               {"gelu_tanh", FERRULE_ACTIVATE_GELU_TANH},
               {"silu", FERRULE_ACTIVATE_SILU},
               {"sigmoid", FERRULE_ACTIVATE_SIGMOID},
               {"tanh", FERRULE_ACTIVATE_TANH},
               {"exp", FERRULE_ACTIVATE_EXP}};
  for (const auto& kind : kinds) time_kind(bench, kernel, kind.name, kind.kind, 128, 768, false);
  time_kind(bench, kernel, "gelu", FERRULE_ACTIVATE_GELU, 197, 3072, false);
  time_kind(bench, kernel, "gelu", FERRULE_ACTIVATE_GELU, 128, 1536, false);
  time_kind(bench, kernel, "silu gated", FERRULE_ACTIVATE_SILU, 128, 1536, true);
  time_kind(bench, kernel, "silu gated", FERRULE_ACTIVATE_SILU, 1, 1536, true);
}

}  // namespace ferrule::bench
