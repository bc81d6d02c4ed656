#include <math.h>

#include "bench/bench.h"
#include "ferrule/arena.h"
#include "kernels/declarations.h"

namespace ferrule::bench {

void bench_selective_scan(Bench& bench, ferrule_selective_scan_fn* kernel) {
  const size_t length = 1024, channels = 768, states = 16;
  const std::vector<float> input = draw_floats(length * channels), gate = draw_floats(length * channels, 2);
  std::vector<float> delta = draw_floats(length * channels, 3), a = draw_floats(channels * states, 4);
  for (float& value : delta) value = 0.02f * fabsf(value);
  for (float& value : a) value = -expf(value);
  const std::vector<float> b = draw_floats(length * states, 5), c = draw_floats(length * states, 6);
  std::vector<float> state(channels * states), output(length * channels);
  ferrule_selective_scan_args args = {};
  args.input = input.data();
  args.delta = delta.data();
  args.a = a.data();
  args.b = b.data();
  args.c = c.data();
  args.output = output.data();
  args.batch = args.groups = 1;
  args.length = length;
  args.channels = channels;
  args.states = states;
  args.b_strides = args.c_strides = {0, 0, states, 1};
  args.initial_state = args.final_state = state.data();
  ferrule_arena arena;
  if (!ferrule_arena_create(&arena, ferrule_selective_scan_scratch(&args, 1))) return;

  const auto time = [&](const char* shape) {
    const size_t units = ferrule_selective_scan_units(&args);
    // 9 for each state, as the field counts (an exponential for one).
    const Work work = {9.0 * static_cast<double>(args.length * channels * states), 0, 0};
    bench.time(shape, work, [&](size_t) { kernel(&args, 0, units, arena.memory); });
  };
  args.input_strides = args.delta_strides = args.gate_strides = args.output_strides = {0, channels, 1};
  time("1024 x 768 x 16");
  args.softplus = 1;
  args.gate = gate.data();
  time("1024 x 768 x 16, softplus, gate");
  args.length = 1;
  time("1 x 768 x 16, softplus, gate");
  args.length = length;
  args.input_strides = args.delta_strides = args.gate_strides = args.output_strides = {0, 1, length};
  time("the same by channels");
  ferrule_arena_destroy(&arena);
}

}  // namespace ferrule::bench
