// The whole op, quantization of the input counted in, on one thread and on all: ferrule_bench --only linear.
#include "ferrule/linear.h"

#include <string.h>

#include <thread>

#include "bench/bench.h"
#include "ferrule/arena.h"

namespace ferrule::bench {

namespace {

struct Layer {
  const char* name;
  ferrule_weight_kind weight;
  size_t group;
  float epilogue;  // 1: GELU
};

const Layer kLayers[] = {
    {"i8", FERRULE_WEIGHT_AFFINE8, 0, 0},        {"i8 gelu", FERRULE_WEIGHT_AFFINE8, 0, 1},
    {"i4 g32", FERRULE_WEIGHT_AFFINE4, 32, 0},   {"i4 g64", FERRULE_WEIGHT_AFFINE4, 64, 0},
    {"i4 g128", FERRULE_WEIGHT_AFFINE4, 128, 0}, {"i4", FERRULE_WEIGHT_AFFINE4, 0, 0},
    {"lut4", FERRULE_WEIGHT_LOOKUP4, 16, 0},     {"lut2", FERRULE_WEIGHT_LOOKUP2, 16, 0}};

struct Shape {
  size_t m, k, n;
};

const Shape kShapes[] = {{1, 2048, 2048},   {1, 2048, 8192},  {4, 2048, 2048},
                         {64, 768, 768},    {128, 384, 1536}, {128, 768, 3072},
                         {128, 2048, 2048}, {197, 768, 3072}, {512, 768, 768}};

// Copies of one packed layer that take turns, so that the weights come from the third-level cache.
void time_layer(Bench& bench, const Layer& layer, const Shape& shape, ferrule_pool* pool) {
  Work work;
  work.int8_ops = 2.0 * static_cast<double>(shape.m * shape.k * shape.n);
  if (bench.skips(work)) return;
  ferrule_linear_spec spec = {};
  spec.weight = layer.weight;
  spec.input = FERRULE_INPUT_I8_DYNAMIC;
  spec.rows = shape.n;
  spec.depth = shape.k;
  spec.group = layer.group;
  std::vector<uint8_t> codes = draw_bytes(shape.n * shape.k);
  if (layer.weight == FERRULE_WEIGHT_AFFINE4) {
    for (uint8_t& code : codes) code = static_cast<uint8_t>(static_cast<int8_t>(code) >> 4);
  }
  if (layer.weight >= FERRULE_WEIGHT_LOOKUP4) {
    for (uint8_t& code : codes) code = code >> (layer.weight == FERRULE_WEIGHT_LOOKUP4 ? 4 : 6);
  }
  const std::vector<float> scales(shape.n * (shape.k / 32 + 1), 0x1p-8f), table = draw_floats(shape.n * 16);
  ferrule_linear_weights weights = {};
  weights.codes = codes.data();
  weights.scales = scales.data();
  weights.table = table.data();

  size_t bytes = 0;
  if (ferrule_linear_packed_size(&spec, bench.isa(), &bytes) != FERRULE_OK) return;
  const size_t copy = (bytes + 63) / 64 * 64, copies = (16 << 20) / copy + 2;
  ferrule_arena arena, scratch;
  if (!ferrule_arena_create(&arena, copies * copy)) return;
  ferrule_linear_pack(&spec, bench.isa(), &weights, arena.memory);
  for (size_t i = 1; i < copies; ++i) memcpy(arena.memory + i * copy, arena.memory, bytes);
  ferrule_arena_create(&scratch,
                       ferrule_linear_scratch(arena.memory, bytes, shape.m, ferrule_pool_threads(pool)));

  const std::vector<float> input = draw_floats(shape.m * shape.k);
  std::vector<float> output(shape.m * shape.n);
  ferrule_linear_args args = {arena.memory,  bytes,   input.data(), shape.k,
                              output.data(), shape.n, shape.m,      {}};
  if (layer.epilogue != 0) args.epilogue.activation = FERRULE_ACTIVATION_GELU;
  if (shape.m < 8) work.bytes = static_cast<double>(bytes);
  const std::string name = std::string(layer.name) + " " + std::to_string(shape.m) + " x " +
                           std::to_string(shape.k) + " x " + std::to_string(shape.n) + " T" +
                           std::to_string(ferrule_pool_threads(pool));
  bench.time(name, work, [&](size_t round) {
    args.packed = arena.memory + round % copies * copy;
    ferrule_linear(&args, scratch.memory, pool);
  });
  ferrule_arena_destroy(&scratch);
  ferrule_arena_destroy(&arena);
}

}  // namespace

void bench_linear(Bench& bench) {
  // Threads that wait for each other never take the same number of instructions.
  ferrule_pool* pool = ferrule_pool_create(bench.counts() ? 1 : std::thread::hardware_concurrency());
  for (const Layer& layer : kLayers) {
    for (const Shape& shape : kShapes) {
      time_layer(bench, layer, shape, nullptr);
      if (ferrule_pool_threads(pool) > 1) time_layer(bench, layer, shape, pool);
    }
  }
  ferrule_pool_destroy(pool);
}

}  // namespace ferrule::bench
