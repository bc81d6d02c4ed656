// The op over packed weights, against the product of decoded weights.
#include "ferrule/linear.h"

#include <stdio.h>
#include <string.h>

#include "ferrule/arena.h"
#include "ferrule/dispatch.h"
#include "ops/linear_packed.h"
#include "tests/gemm.h"
#include "tests/rig.h"

namespace ferrule::tests {

namespace {

struct Memory {
  explicit Memory(size_t bytes) { ferrule_arena_create(&arena, bytes + FERRULE_ALIGNMENT); }
  ~Memory() { ferrule_arena_destroy(&arena); }
  uint8_t* data() { return arena.memory; }
  ferrule_arena arena = {};
};

double weight_at(const ferrule_linear_spec& spec, const DrawnWeights& drawn, size_t n, size_t k) {
  if (spec.weight == FERRULE_WEIGHT_F32) return drawn.values[n * spec.depth + k];
  const int8_t code = drawn.codes[n * spec.depth + k];
  if (ops::is_lookup(spec.weight)) {
    const size_t palette = spec.group ? n / spec.group : 0;
    const float* table = &drawn.table[palette << ops::bits_of(spec.weight)];
    return static_cast<double>(table[static_cast<uint8_t>(code)]) * drawn.scales[n];
  }
  const bool grouped = spec.group && spec.group < spec.depth;
  const size_t groups = grouped ? (spec.depth + spec.group - 1) / spec.group : 1;
  return static_cast<double>(drawn.scales[n * groups + (grouped ? k / spec.group : 0)]) * code;
}

// One row as the op sees it: sdk/coded.py, quantize_rows and quantize_range.
std::vector<double> see_row(const ferrule_linear_spec& spec, const float* x) {
  std::vector<double> seen(x, x + spec.depth);
  if (spec.input == FERRULE_INPUT_F32) return seen;
  float low = 0, high = 0, scale = spec.input_scale;
  for (size_t k = 0; k < spec.depth; ++k) low = fminf(low, x[k]), high = fmaxf(high, x[k]);
  auto zero = static_cast<float>(spec.input_zero);
  if (spec.input == FERRULE_INPUT_I8_DYNAMIC) {
    scale = fmaxf((high - low) / 255, 0x1p-23f);
    zero = fminf(fmaxf(-128 - rintf(low / scale), -128), 127);
  }
  for (double& value : seen) {
    const float code = fminf(fmaxf(rintf(static_cast<float>(value) / scale) + zero, -128), 127);
    value = static_cast<double>(code - zero) * scale;
  }
  return seen;
}

// Whether a step went well; says which did not.
bool went_well(const char* step, ferrule_status status) {
  if (status != FERRULE_OK) printf("linear: %s: %s\n", step, ferrule_status_text(status));
  return status == FERRULE_OK;
}

bool computes(const ferrule_linear_spec& spec, const char* isa, size_t m, uint64_t seed, ferrule_pool* pool) {
  Random random(seed);
  const DrawnWeights drawn = draw_weights(random, spec, false);
  size_t bytes = 0;
  if (!went_well("size", ferrule_linear_packed_size(&spec, isa, &bytes))) return false;
  Memory packed(bytes);
  const ferrule_linear_weights weights = drawn.weights();
  if (!went_well("pack", ferrule_linear_pack(&spec, isa, &weights, packed.data()))) return false;
  ferrule_linear_info info;
  if (!went_well("check", ferrule_linear_check(packed.data(), bytes, 1, &info))) return false;

  const size_t stride = spec.depth + 3;
  const Buffer<float> input = draw_normal(random, m * stride);
  Buffer<float> output(random, m * (spec.rows + 1), 9.0f);
  Memory scratch(ferrule_linear_scratch(packed.data(), bytes, m, ferrule_pool_threads(pool)));
  ferrule_linear_args args = {};
  args.packed = packed.data();
  args.packed_bytes = bytes;
  args.input = input.data();
  args.input_stride = stride;
  args.output = output.data();
  args.output_stride = spec.rows + 1;
  args.m = m;
  if (!went_well("run", ferrule_linear(&args, scratch.data(), pool))) return false;
  for (size_t r = 0; r < m; ++r) {
    const std::vector<double> x = see_row(spec, input.data() + r * stride);
    for (size_t n = 0; n < spec.rows; ++n) {
      double want = drawn.bias.empty() ? 0 : drawn.bias[n], size = 1;
      for (size_t k = 0; k < spec.depth; ++k) {
        const double product = x[k] * weight_at(spec, drawn, n, k);
        want += product;
        size += fabs(x[k]) * sqrt(1.0 / static_cast<double>(spec.depth)) * 2;
      }
      const double slack = 2e-5 * size + 3 * static_cast<double>(info.palette_error) * size;
      if (fabs(output[r * (spec.rows + 1) + n] - want) > slack) {
        printf("linear: weight %d input %d isa %s m %zu n %zu k %zu group %zu: [%zu][%zu] is %g, want %g\n",
               spec.weight, spec.input, isa, m, spec.rows, spec.depth, spec.group, r, n,
               static_cast<double>(output[r * (spec.rows + 1) + n]), want);
        return false;
      }
    }
    if (output[r * (spec.rows + 1) + spec.rows] != 9.0f) return false;
  }
  return output.intact();
}

ferrule_linear_spec draw_spec(Random& random) {
  ferrule_linear_spec spec = {};
  spec.weight = static_cast<ferrule_weight_kind>(random.integer(0, 4));
  spec.input = static_cast<ferrule_input_kind>(random.integer(0, spec.weight == FERRULE_WEIGHT_F32 ? 0 : 2));
  const bool floats = spec.weight == FERRULE_WEIGHT_F32, codes = spec.weight == FERRULE_WEIGHT_AFFINE8;
  spec.sparse24 = (floats || (codes && spec.input != FERRULE_INPUT_F32)) && random.chance(2);
  if (spec.input == FERRULE_INPUT_I8_STATIC) {
    spec.input_scale = 0.03f;
    spec.input_zero = static_cast<int32_t>(random.integer(-60, 60));
  }
  spec.rows = 16 * random.size(9);
  spec.depth = random.size(200);
  const size_t groups[] = {0, 32, 64, 128};
  if (spec.weight == FERRULE_WEIGHT_AFFINE4)
    spec.group = groups[random.integer(0, 3)];
  else if (ops::is_lookup(spec.weight))
    spec.group = spec.rows ? 16 * static_cast<size_t>(random.chance(2)) : 0;
  else
    spec.rows += random.size(15);
  return spec;
}

bool all_compute(ferrule_pool* pool) {
  for (size_t i = 0; i < ferrule_isa_count(); ++i) {
    const char* isa = ferrule_isa_at(i);
    if (!is_tested(isa)) continue;
    for (uint64_t seed = 0; seed < 60; ++seed) {
      Random random(seed);
      const ferrule_linear_spec spec = draw_spec(random);
      if (!computes(spec, isa, random.size(seed % 8 ? 20 : 150), seed, pool)) return false;
    }
  }
  return true;
}

// A small layer whose bytes or arguments the tests below spoil.
struct Layer {
  Layer() {
    Random random(7);
    spec.weight = FERRULE_WEIGHT_AFFINE8;
    spec.input = FERRULE_INPUT_I8_DYNAMIC;
    spec.rows = 20;
    spec.depth = 30;
    drawn = draw_weights(random, spec, false);
    weights = drawn.weights();
    ferrule_linear_packed_size(&spec, nullptr, &bytes);
    ferrule_arena_create(&arena, bytes + 65536);
    packed = static_cast<uint8_t*>(ferrule_arena_take(&arena, bytes));
    ferrule_linear_pack(&spec, nullptr, &weights, packed);
    args = {packed, bytes, input, 30, output, 20, 2, {}};
    scratch = ferrule_arena_take(&arena, ferrule_linear_scratch(packed, bytes, 2, 1));
  }
  ~Layer() { ferrule_arena_destroy(&arena); }
  ferrule_status run() { return ferrule_linear(&args, scratch, nullptr); }

  ferrule_linear_spec spec = {};
  DrawnWeights drawn;
  ferrule_linear_weights weights;
  ferrule_arena arena = {};
  size_t bytes = 0;
  uint8_t* packed;
  void* scratch;
  float input[60] = {}, output[40] = {};
  ferrule_linear_args args;
};

bool refuses_damage() {
  Layer layer;
  if (layer.run() != FERRULE_OK) return false;
  for (size_t i = 0; i < 112; ++i) {
    layer.packed[i] ^= 0x10;
    const bool refused = layer.run() == FERRULE_BAD_PACKED &&
                         ferrule_linear_check(layer.packed, layer.bytes, 0, nullptr) == FERRULE_BAD_PACKED;
    layer.packed[i] ^= 0x10;
    if (!refused) return printf("linear: damage at byte %zu went unnoticed\n", i), false;
  }
  layer.packed[layer.bytes / 2] ^= 1;
  if (ferrule_linear_check(layer.packed, layer.bytes, 1, nullptr) != FERRULE_BAD_PACKED) return false;
  layer.packed[layer.bytes / 2] ^= 1;
  return ferrule_linear_check(layer.packed, layer.bytes, 1, nullptr) == FERRULE_OK &&
         ferrule_linear_check(layer.packed, layer.bytes - 1, 1, nullptr) == FERRULE_BAD_PACKED &&
         ferrule_linear_check(layer.packed, 5, 1, nullptr) == FERRULE_BAD_PACKED &&
         ferrule_linear_check(nullptr, 1000, 1, nullptr) == FERRULE_BAD_PACKED;
}

struct Block {
  explicit Block(size_t size) : bytes(size) { ferrule_arena_create(&arena, size); }
  ~Block() { ferrule_arena_destroy(&arena); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  size_t bytes;
  ferrule_arena arena = {};
};

// The same bytes on one thread and on several; without the checksum where none is asked for.
bool packs_alike(ferrule_weight_kind kind, ferrule_input_kind input, ferrule_pool* pool) {
  using ops::Sealing;
  Random random(11);
  ferrule_linear_spec spec = {};
  spec.weight = kind;
  spec.input = input;
  spec.rows = 530;
  spec.depth = 701;
  const DrawnWeights drawn = draw_weights(random, spec, false);
  const ferrule_linear_weights weights = drawn.weights();
  size_t bytes = 0;
  if (ferrule_linear_packed_size(&spec, nullptr, &bytes)) return false;
  const Block alone(bytes), shared(bytes), open(bytes);
  const auto pack = [&](const Block& block, Sealing sealing, ferrule_pool* threads) {
    memset(block.arena.memory, 0xA5, bytes);
    return ops::pack_layer(spec, nullptr, weights, sealing, threads, block.arena.memory) == FERRULE_OK;
  };
  const auto check = [&](const Block& block, int whole) {
    return ferrule_linear_check(block.arena.memory, bytes, whole, nullptr);
  };
  return pack(alone, Sealing::kSummed, nullptr) && pack(shared, Sealing::kSummed, pool) &&
         pack(open, Sealing::kNone, pool) && memcmp(alone.arena.memory, shared.arena.memory, bytes) == 0 &&
         check(shared, 1) == FERRULE_OK && check(open, 0) == FERRULE_OK &&
         check(open, 1) == FERRULE_BAD_PACKED;
}

bool packs_on_threads(ferrule_pool* pool) {
  return packs_alike(FERRULE_WEIGHT_F32, FERRULE_INPUT_F32, pool) &&
         packs_alike(FERRULE_WEIGHT_AFFINE8, FERRULE_INPUT_I8_DYNAMIC, pool) &&
         packs_alike(FERRULE_WEIGHT_AFFINE4, FERRULE_INPUT_F32, pool) &&
         packs_alike(FERRULE_WEIGHT_LOOKUP4, FERRULE_INPUT_I8_DYNAMIC, pool);
}

ferrule_status run_with(void (*spoil)(ferrule_linear_args&)) {
  Layer layer;
  spoil(layer.args);
  return layer.run();
}

bool refuses_arguments() {
  using Args = ferrule_linear_args;
  return run_with([](Args& a) {
           a.m = 0;
           a.input = nullptr;
         }) == FERRULE_OK &&
         run_with([](Args& a) { a.input = nullptr; }) == FERRULE_BAD_SHAPE &&
         run_with([](Args& a) { a.output = nullptr; }) == FERRULE_BAD_SHAPE &&
         run_with([](Args& a) { a.input_stride = 29; }) == FERRULE_BAD_LAYOUT &&
         run_with([](Args& a) { a.output_stride = 19; }) == FERRULE_BAD_LAYOUT &&
         run_with([](Args& a) { a.m = SIZE_MAX / 8; }) == FERRULE_TOO_LARGE &&
         run_with([](Args& a) { a.epilogue.output_scale = NAN; }) == FERRULE_BAD_VALUE &&
         run_with([](Args& a) {
           a.epilogue.output_scale = 1;
           a.epilogue.output_zero = 128;
         }) == FERRULE_BAD_VALUE &&
         run_with([](Args& a) {
           a.epilogue.activation = static_cast<ferrule_activation>(FERRULE_ACTIVATION_HARD_SWISH + 1);
         }) == FERRULE_BAD_TYPE;
}

ferrule_status pack_with(void (*spoil)(Layer&)) {
  Layer layer;
  spoil(layer);
  size_t bytes;
  const ferrule_status status = ferrule_linear_packed_size(&layer.spec, nullptr, &bytes);
  return status ? status : ferrule_linear_pack(&layer.spec, nullptr, &layer.weights, layer.packed);
}

bool refuses_weights() {
  return pack_with([](Layer& l) {
           l.spec.weight = static_cast<ferrule_weight_kind>(FERRULE_WEIGHT_LOOKUP2 + 1);
         }) == FERRULE_BAD_TYPE &&
         pack_with([](Layer& l) { l.spec.weight = FERRULE_WEIGHT_F32; }) == FERRULE_BAD_TYPE &&
         pack_with([](Layer& l) { l.spec.sparse24 = 1; }) == FERRULE_BAD_VALUE &&
         pack_with([](Layer& l) {
           l.spec.sparse24 = 1;
           l.spec.weight = FERRULE_WEIGHT_LOOKUP4;
         }) == FERRULE_BAD_TYPE &&
         pack_with([](Layer& l) { l.spec.group = 8; }) == FERRULE_BAD_TYPE &&
         pack_with([](Layer& l) { l.spec.depth = 65794; }) == FERRULE_TOO_LARGE &&
         pack_with([](Layer& l) { l.spec.rows = SIZE_MAX / 4; }) == FERRULE_TOO_LARGE &&
         pack_with([](Layer& l) { l.spec.input = FERRULE_INPUT_I8_STATIC; }) == FERRULE_BAD_VALUE &&
         pack_with([](Layer& l) { l.weights.codes = nullptr; }) == FERRULE_BAD_SHAPE &&
         pack_with([](Layer& l) { l.drawn.scales[3] = NAN; }) == FERRULE_BAD_VALUE &&
         pack_with([](Layer& l) { l.spec.weight = FERRULE_WEIGHT_AFFINE4; }) == FERRULE_BAD_VALUE &&
         pack_with([](Layer& l) { l.spec.weight = FERRULE_WEIGHT_LOOKUP4; }) == FERRULE_BAD_SHAPE &&
         pack_with([](Layer& l) {
           l.spec.weight = FERRULE_WEIGHT_LOOKUP4;
           l.spec.group = 3;
         }) == FERRULE_BAD_SHAPE &&
         pack_with([](Layer& l) {
           l.spec.weight = FERRULE_WEIGHT_LOOKUP4;
           l.spec.group = 1;
         }) == FERRULE_BAD_LAYOUT;
}

}  // namespace

bool linear_op_passes() {
  ferrule_pool* pool = ferrule_pool_create(3);
  const bool computes = all_compute(nullptr) && all_compute(pool), packs = packs_on_threads(pool);
  ferrule_pool_destroy(pool);
  if (!packs) return printf("linear: packing on threads\n"), false;
  if (!computes) return false;
  if (!refuses_damage()) return printf("linear: damage\n"), false;
  if (!refuses_arguments()) return printf("linear: arguments\n"), false;
  if (!refuses_weights()) return printf("linear: weights\n"), false;
  return true;
}

}  // namespace ferrule::tests
