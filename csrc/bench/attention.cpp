#include <math.h>

#include "bench/bench.h"
#include "ferrule/arena.h"
#include "kernels/declarations.h"

namespace ferrule::bench {

namespace {

// Queries, keys and values of one call, with contiguous heads.
struct Problem {
  size_t query_heads, kv_heads, queries, keys, size;
  std::vector<float> query, key, value, output;
  ferrule_attention_args args = {};
  ferrule_arena arena = {};

  Problem(size_t query_heads, size_t kv_heads, size_t queries, size_t keys, size_t size, size_t copies = 1)
      : query_heads(query_heads), kv_heads(kv_heads), queries(queries), keys(keys), size(size) {
    query = draw_floats(query_heads * queries * size, 1);
    key = draw_floats(copies * kv_heads * keys * size, 2);
    value = draw_floats(copies * kv_heads * keys * size, 3);
    output.resize(query.size());
    args.queries = query.data();
    args.output = output.data();
    args.query_head_stride = args.output_head_stride = queries * size;
    args.query_stride = args.output_stride = size;
    args.keys = floats(key.data());
    args.values = floats(value.data());
    args.batch = 1;
    args.query_heads = query_heads;
    args.kv_heads = kv_heads;
    args.query_count = queries;
    args.key_count = keys;
    args.head_size = size;
    args.scale = 1 / sqrtf(static_cast<float>(size));
    args.slices = 1;
    const size_t blocks = (queries + 255) / 256;
    args.query_block = (queries + blocks - 1) / blocks;
    ferrule_arena_create(&arena, ferrule_attention_scratch(&args, 1) + 1024 * 1024);
  }
  ~Problem() { ferrule_arena_destroy(&arena); }

  ferrule_kv floats(const float* data) const {
    ferrule_kv kv = {};
    kv.data = data;
    kv.head_stride = keys * size;
    kv.token_stride = size;
    return kv;
  }
};

// A cache of codes drawn from a float one.
struct Codes {
  std::vector<unsigned char> bytes;
  std::vector<float> scales, offsets;
  ferrule_kv kv = {};

  Codes(const Problem& problem, const std::vector<float>& floats, ferrule_kv_kind kind, size_t group) {
    const size_t rows = floats.size() / problem.size;
    const size_t row = problem.size * (kind == FERRULE_KV_I8 ? 8 : kind == FERRULE_KV_I4 ? 4 : 2) / 8;
    const size_t groups = group ? problem.size / group : 1;
    bytes.resize(rows * row);
    scales.resize(rows * groups);
    offsets.resize(rows * groups);
    kv.kind = kind;
    kv.data = bytes.data();
    kv.scales = scales.data();
    kv.offsets = kind == FERRULE_KV_I8 ? nullptr : offsets.data();
    kv.head_stride = problem.keys * row;
    kv.token_stride = row;
    kv.scale_head_stride = problem.keys * groups;
    kv.scale_token_stride = groups;
    kv.group = group;
    ferrule_quantize_kv_args args = {};
    args.input = floats.data();
    args.input_token_stride = problem.size;
    args.kind = kind;
    args.codes = bytes.data();
    args.code_token_stride = row;
    args.scales = scales.data();
    args.offsets = kind == FERRULE_KV_I8 ? nullptr : offsets.data();
    args.scale_token_stride = groups;
    args.batch = args.heads = 1;
    args.tokens = rows;
    args.head_size = problem.size;
    args.group = group;
    args.clip = 1;
    ferrule_quantize_kv(&args, nullptr, nullptr);
  }
};

const char* name_of(ferrule_kv_kind kind) {
  return kind == FERRULE_KV_F32  ? "fp32"
         : kind == FERRULE_KV_I8 ? "int8"
         : kind == FERRULE_KV_I4 ? "int4"
                                 : "int2";
}

}  // namespace

void bench_attention_prefill(Bench& bench, ferrule_attention_prefill_fn* kernel) {
  struct Shape {
    size_t query_heads, kv_heads, tokens, size;
    bool causal;
    ferrule_kv_kind kind;
  };
  const Shape shapes[] = {{12, 12, 128, 32, false, FERRULE_KV_F32}, {12, 12, 197, 64, false, FERRULE_KV_F32},
                          {12, 12, 512, 64, false, FERRULE_KV_F32}, {12, 12, 2048, 64, false, FERRULE_KV_F32},
                          {12, 12, 2048, 64, true, FERRULE_KV_F32}, {9, 3, 512, 64, true, FERRULE_KV_F32},
                          {9, 3, 512, 64, true, FERRULE_KV_I4},     {8, 8, 512, 128, false, FERRULE_KV_F32},
                          {8, 8, 512, 80, false, FERRULE_KV_F32}};
  for (const Shape& s : shapes) {
    Problem problem(s.query_heads, s.kv_heads, s.tokens, s.tokens, s.size);
    ferrule_attention_args& args = problem.args;
    args.causal = s.causal;
    std::vector<Codes> codes;
    if (s.kind != FERRULE_KV_F32) {
      codes.emplace_back(problem, problem.key, s.kind, 32);
      codes.emplace_back(problem, problem.value, s.kind, 32);
      args.keys = codes[0].kv;
      args.values = codes[1].kv;
    }
    const size_t units = s.query_heads * ((s.tokens + args.query_block - 1) / args.query_block);
    const auto tokens = static_cast<double>(s.tokens);
    const double pairs = s.causal ? tokens * (tokens + 1) / 2 : tokens * tokens;
    const std::string shape = std::to_string(s.query_heads) + "/" + std::to_string(s.kv_heads) + " x " +
                              std::to_string(s.size) + ", " + std::to_string(s.tokens) +
                              (s.causal ? " causal " : " ") + name_of(s.kind);
    bench.time(shape, {4 * pairs * static_cast<double>(s.query_heads * s.size), 0, 0},
               [&](size_t) { kernel(&args, 0, units, problem.arena.memory); });
  }
}

void bench_attention_decode(Bench& bench, ferrule_attention_decode_fn* kernel) {
  for (const size_t keys : {512, 2048, 8192}) {
    for (const ferrule_kv_kind kind : {FERRULE_KV_F32, FERRULE_KV_I8, FERRULE_KV_I4, FERRULE_KV_I2}) {
      // Copies of the cache, as many as the layers of a model that come between two uses of one.
      const size_t copies = 30;
      Problem problem(9, 3, 1, keys, 64, copies);
      ferrule_attention_args& args = problem.args;
      std::vector<Codes> codes;
      if (kind != FERRULE_KV_F32) {
        codes.emplace_back(problem, problem.key, kind, 0);
        codes.emplace_back(problem, problem.value, kind, 0);
        args.keys = codes[0].kv;
        args.values = codes[1].kv;
      }
      const ferrule_kv first_keys = args.keys, first_values = args.values;
      const size_t row = kind == FERRULE_KV_F32 ? 64 : args.keys.token_stride;
      const size_t item = kind == FERRULE_KV_F32 ? 4 : 1;
      const double bytes = 2.0 * 3 * static_cast<double>(keys * row * item);
      const std::string shape = "9/3 x 64, " + std::to_string(keys) + " " + name_of(kind);
      bench.time(shape, {4.0 * 9 * 64 * static_cast<double>(keys), 0, bytes}, [&](size_t round) {
        const size_t rows = round % copies * 3 * keys;
        args.keys.data = static_cast<const unsigned char*>(first_keys.data) + rows * row * item;
        args.values.data = static_cast<const unsigned char*>(first_values.data) + rows * row * item;
        if (kind != FERRULE_KV_F32) {
          args.keys.scales = first_keys.scales + rows;
          args.values.scales = first_values.scales + rows;
          args.keys.offsets = first_keys.offsets ? first_keys.offsets + rows : nullptr;
          args.values.offsets = first_values.offsets ? first_values.offsets + rows : nullptr;
        }
        kernel(&args, 0, 3, problem.arena.memory);
      });
    }
  }
}

void bench_quantize_kv(Bench& bench, ferrule_quantize_kv_fn* kernel) {
  const size_t rows = 3 * 512, size = 64;
  const std::vector<float> input = draw_floats(rows * size);
  std::vector<unsigned char> codes(rows * size);
  std::vector<float> scales(rows), offsets(rows);
  for (const ferrule_kv_kind kind : {FERRULE_KV_I8, FERRULE_KV_I4, FERRULE_KV_I2}) {
    ferrule_quantize_kv_args args = {};
    args.input = input.data();
    args.input_token_stride = size;
    args.kind = kind;
    args.codes = codes.data();
    args.code_token_stride = size;
    args.scales = scales.data();
    args.offsets = offsets.data();
    args.scale_token_stride = 1;
    args.batch = args.heads = 1;
    args.tokens = rows;
    args.head_size = size;
    args.clip = 1;
    bench.time(std::string("1536 x 64 to ") + name_of(kind), {0, 0, 4.0 * rows * size},
               [&](size_t) { kernel(&args, 0, rows, nullptr); });
  }
}

}  // namespace ferrule::bench
