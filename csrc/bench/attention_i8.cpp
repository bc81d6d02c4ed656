#include <math.h>

#include "bench/bench.h"
#include "ferrule/arena.h"
#include "kernels/declarations.h"

namespace ferrule::bench {

namespace {

// One call over the rows that a model's one product of queries, keys and values leaves.
struct Problem {
  size_t heads, tokens, size;
  std::vector<float> rows, output;
  ferrule_attention_args args = {};
  ferrule_arena arena = {};

  Problem(size_t heads, size_t tokens, size_t size)
      : heads(heads), tokens(tokens), size(size), rows(draw_floats(tokens * 3 * heads * size)) {
    output.resize(tokens * heads * size);
    args.queries = rows.data();
    args.output = output.data();
    args.query_stride = 3 * heads * size;
    args.output_stride = heads * size;
    args.query_head_stride = args.output_head_stride = size;
    args.keys.data = rows.data() + heads * size;
    args.values.data = rows.data() + 2 * heads * size;
    args.keys.head_stride = args.values.head_stride = size;
    args.keys.token_stride = args.values.token_stride = 3 * heads * size;
    args.batch = 1;
    args.query_heads = args.kv_heads = heads;
    args.query_count = args.key_count = tokens;
    args.head_size = size;
    args.scale = 1 / sqrtf(static_cast<float>(size));
    args.query_block = tokens;
    const size_t bytes = ferrule_attention_i8_scratch(&args, 1);
    ferrule_arena_create(&arena, bytes);
    args.prepared = arena.memory;
  }
  ~Problem() { ferrule_arena_destroy(&arena); }

  // Behind the codes, whose size is that of all but one thread's memory.
  char* scratch() const {
    const size_t thread = ferrule_attention_i8_scratch(&args, 2) - ferrule_attention_i8_scratch(&args, 1);
    return reinterpret_cast<char*>(arena.memory) + ferrule_attention_i8_scratch(&args, 1) - thread;
  }
  std::string name() const {
    return std::to_string(heads) + " x " + std::to_string(size) + ", " + std::to_string(tokens);
  }
};

constexpr size_t kShapes[][3] = {{12, 16, 32},  {12, 64, 32},  {12, 128, 32}, {12, 256, 32},
                                 {12, 512, 32}, {12, 197, 64}, {12, 512, 64}};

}  // namespace

void bench_attention_i8(Bench& bench, ferrule_attention_i8_fn* kernel) {
  for (const auto& [heads, tokens, size] : kShapes) {
    Problem problem(heads, tokens, size);
    ferrule_attention_i8_prepare_scalar(&problem.args, 0, heads, problem.scratch());
    const auto pairs = static_cast<double>(tokens * tokens);
    bench.time(problem.name(), {0, 4 * pairs * static_cast<double>(heads * size), 0},
               [&](size_t) { kernel(&problem.args, 0, heads, problem.scratch()); });
  }
}

void bench_attention_i8_prepare(Bench& bench, ferrule_attention_i8_prepare_fn* kernel) {
  for (const auto& [heads, tokens, size] : kShapes) {
    Problem problem(heads, tokens, size);
    bench.time(problem.name(), {0, 0, 10 * static_cast<double>(tokens * heads * size)},
               [&](size_t) { kernel(&problem.args, 0, heads, problem.scratch()); });
  }
}

}  // namespace ferrule::bench
