#include <algorithm>

#include "ferrule/arena.h"
#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

namespace {

// Strides of [batch][head][token][size] in memory, the heads before the tokens or after, with gaps.
struct Layout {
  size_t batch, head, token, total;

  Layout(Random& random, size_t batches, size_t heads, size_t tokens, size_t size) {
    const size_t row = size + (random.chance(3) ? random.size(5) : 0);
    const bool heads_last = random.chance(2);
    head = heads_last ? row : tokens * row;
    token = heads_last ? heads * row : row;
    batch = heads * tokens * row + random.size(3);
    total = batches * batch;
  }
};

struct Shape {
  size_t batch, kv_heads, group, queries, keys, size;
};

// A random problem with its memory; `args` points into it.
struct Problem {
  ferrule_attention_args args = {};
  Buffer<float> queries, keys, values, output, bias, sizes;
  Buffer<int32_t> begins, ends;

  Problem(Random& random, const Shape& s)
      : queries(random, 0),
        keys(random, 0),
        values(random, 0),
        output(random, 0),
        bias(draw_normal(random, s.batch * s.keys)),
        sizes(random, s.batch * s.keys),
        begins(random, s.batch),
        ends(random, s.batch) {
    args.batch = s.batch;
    args.query_heads = s.kv_heads * s.group;
    args.kv_heads = s.kv_heads;
    args.query_count = s.queries;
    args.key_count = s.keys;
    args.head_size = s.size;
    args.scale = 1 / sqrtf(static_cast<float>(s.size));
    const Layout q(random, s.batch, args.query_heads, s.queries, s.size),
        out = q, k(random, s.batch, s.kv_heads, s.keys, s.size),
        v(random, s.batch, s.kv_heads, s.keys, s.size);
    queries = draw_normal(random, q.total);
    output = Buffer<float>(random, out.total);
    args.queries = queries.data();
    args.output = output.data();
    args.query_batch_stride = args.output_batch_stride = q.batch;
    args.query_head_stride = args.output_head_stride = q.head;
    args.query_stride = args.output_stride = q.token;
    keys = draw_normal(random, k.total);
    values = draw_normal(random, v.total);
    place(args.keys, keys.data(), k);
    place(args.values, values.data(), v);
    for (size_t i = 0; i < sizes.size(); ++i) sizes[i] = static_cast<float>(random.integer(1, 9));
  }

  static void place(ferrule_kv& kv, const float* data, const Layout& layout) {
    kv.data = data;
    kv.batch_stride = layout.batch;
    kv.head_stride = layout.head;
    kv.token_stride = layout.token;
  }

  void add_bias(Random& random) {
    args.bias = bias.data();
    args.bias_key_stride = random.chance(4) ? 0 : 1;
    args.bias_batch_stride = random.chance(2) ? args.key_count : 0;
    const float hidden = random.chance(2) ? -INFINITY : -3.4028235e38f;
    for (size_t i = 0; i < bias.size(); ++i) {
      if (random.chance(3)) bias[i] = hidden;
    }
  }

  void draw_options(Random& random) {
    args.causal = random.chance(2);
    if (random.chance(3)) args.scale = random.uniform(-1, 1);
    if (random.chance(3)) add_bias(random);
    if (random.chance(4)) args.sizes = sizes.data();
    for (size_t b = 0; b < args.batch; ++b) {
      const auto most = static_cast<int64_t>(args.key_count);
      begins[b] = static_cast<int32_t>(random.integer(0, std::min<int64_t>(most, 20)));
      ends[b] = static_cast<int32_t>(random.integer(0, most));
    }
    if (random.chance(4)) args.key_begins = begins.data();
    if (random.chance(4)) args.key_ends = ends.data();
  }

  // NaN, infinities and numbers at the ends of float32's range.
  void draw_wild(Random& random) {
    const float wild[] = {NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 1e-42f};
    Buffer<float>* const places[] = {&queries, &keys, &values, &bias, &sizes};
    Buffer<float>& place = *places[random.integer(0, 4)];
    if (place.size()) place[random.bits() % place.size()] = wild[random.integer(0, 5)];
  }
};

Shape draw_shape(Random& random) {
  const size_t budget = random.chance(40) ? 400000 : 8000;
  Shape s = {};
  s.batch = random.chance(4) ? 2 : 1;
  s.kv_heads = random.chance(3) ? 2 : 1;
  s.group = static_cast<size_t>(random.integer(1, 3));
  s.size = random.chance(4) ? 16 * static_cast<size_t>(random.integer(1, 8)) : random.size(159) + 1;
  const size_t left = budget / (s.batch * s.kv_heads * s.group * s.size) + 1;
  s.keys = random.size(std::min<size_t>(left, random.chance(4) ? 1200 : 200)) + 1;
  s.queries = random.size(std::min<size_t>(left / s.keys + 1, 40)) + 1;
  return s;
}

void describe(Rig& rig, const ferrule_attention_args& args) {
  rig.describe(
      "batch %zu heads %zu/%zu queries %zu keys %zu size %zu causal %d bias %d sizes %d begins %d ends %d "
      "block %zu",
      args.batch, args.query_heads, args.kv_heads, args.query_count, args.key_count, args.head_size,
      args.causal, args.bias != nullptr, args.sizes != nullptr, args.key_begins != nullptr,
      args.key_ends != nullptr, args.query_block);
}

// Bytes as kernels/attention_i8/layout.h counts them.
size_t prepared_bytes(const ferrule_attention_args& args) {
  const size_t keys = (args.key_count + 15) / 16 * 16, width = (args.head_size + 15) / 16 * 16;
  return args.batch * args.kv_heads * (keys * (2 * width + 12) + width * 4);
}

Buffer<float> draw_scratch(Random& random, const ferrule_attention_args& args) {
  const size_t width = (args.head_size + 15) / 16 * 16;
  return Buffer<float>(random, (6 * (512 * 5 + width * 5) + 8 * width) / 4 + 1);
}

bool all_finite(const Buffer<float>& x) {
  return std::all_of(x.data(), x.data() + x.size(), [](float each) { return isfinite(each); });
}

}  // namespace

void test_attention_i8_prepare(Rig& rig, ferrule_attention_i8_prepare_fn* kernel) {
  Problem problem(rig.random, draw_shape(rig.random));
  ferrule_attention_args& args = problem.args;
  problem.draw_options(rig.random);
  describe(rig, args);
  Buffer<float> scratch = draw_scratch(rig.random, args);
  Buffer<float> codes(rig.random, prepared_bytes(args) / 4), want = codes;
  args.prepared = want.data();
  ferrule_attention_i8_prepare_scalar(&args, 0, args.batch * args.kv_heads, scratch.data());
  args.prepared = codes.data();
  kernel(&args, 0, args.batch * args.kv_heads, scratch.data());
  rig.expect_codes("prepared bytes", reinterpret_cast<const int8_t*>(codes.data()),
                   reinterpret_cast<const int8_t*>(want.data()), prepared_bytes(args));
  rig.expect(codes.intact() && scratch.intact(), "wrote past its memory");
}

void test_attention_i8(Rig& rig, ferrule_attention_i8_fn* kernel) {
  Problem problem(rig.random, draw_shape(rig.random));
  ferrule_attention_args& args = problem.args;
  problem.draw_options(rig.random);
  if (rig.random.chance(8)) problem.draw_wild(rig.random);
  args.query_block = static_cast<size_t>(rig.random.integer(1, 30));
  describe(rig, args);
  Buffer<float> scratch = draw_scratch(rig.random, args);
  Buffer<float> codes(rig.random, prepared_bytes(args) / 4);
  args.prepared = codes.data();
  ferrule_attention_i8_prepare_scalar(&args, 0, args.batch * args.kv_heads, scratch.data());
  const size_t units =
      args.batch * args.query_heads * ((args.query_count + args.query_block - 1) / args.query_block);
  Buffer<float> want = problem.output;
  float* const output = args.output;
  args.output = want.data();
  ferrule_attention_i8_scalar(&args, 0, units, scratch.data());
  args.output = output;
  kernel(&args, 0, units, scratch.data());
  rig.expect_close("output", problem.output.data(), want.data(), want.size(), 1e-6f, 1e-5f);
  rig.expect(problem.output.intact() && codes.intact() && scratch.intact(), "wrote past its memory");
}

namespace {

ferrule_status attend(const ferrule_attention_args& args, ferrule_pool* pool, const char* isa = nullptr) {
  ferrule_arena arena = {};
  const size_t bytes = ferrule_attention_i8_scratch(&args, ferrule_pool_threads(pool));
  if (!ferrule_arena_create(&arena, bytes + 64)) return FERRULE_TOO_LARGE;
  const ferrule_status status = ferrule_attention_i8(&args, isa, pool, arena.memory, bytes);
  ferrule_arena_destroy(&arena);
  return status;
}

double cosine(const float* a, const float* b, size_t count) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < count; ++i) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
  return aa == 0 && bb == 0 ? 1 : ab / sqrt(aa * bb);
}

// The lowest cosine of a row of the op's output to exact attention's.
double lowest_cosine(Random& random, ferrule_pool* pool, const Shape& shape, bool has_options) {
  Problem problem(random, shape);
  ferrule_attention_args& args = problem.args;
  if (has_options) {
    args.causal = 1;
    args.sizes = problem.sizes.data();
    problem.add_bias(random);
    problem.bias[0] = 0;  // so that every query sees a key
  }
  if (attend(args, pool) != FERRULE_OK || !problem.output.intact()) return -1;
  const Buffer<float> got = problem.output;
  ferrule_arena arena = {};
  const size_t bytes = ferrule_attention_scratch(&args, 1);
  if (!ferrule_arena_create(&arena, bytes)) return -1;
  const bool ok = ferrule_attention(&args, nullptr, nullptr, arena.memory, bytes) == FERRULE_OK;
  ferrule_arena_destroy(&arena);
  double lowest = ok ? 1 : -1;
  for (size_t row = 0; row < args.batch * args.query_heads * args.query_count; ++row) {
    const size_t at = row / args.query_count / args.query_heads * args.output_batch_stride +
                      row / args.query_count % args.query_heads * args.output_head_stride +
                      row % args.query_count * args.output_stride;
    lowest = std::min(lowest, cosine(got.data() + at, problem.output.data() + at, args.head_size));
  }
  return lowest;
}

bool is_close_to_exact(Random& random, ferrule_pool* pool) {
  bool close = true;
  for (const size_t keys : {1, 16, 33, 128, 512, 1500}) {
    for (const size_t size : {32, 64}) {
      for (const bool has_options : {false, true}) {
        const double lowest = lowest_cosine(random, pool, {1, 2, 2, keys, keys, size}, has_options);
        if (lowest >= (keys <= 512 ? 0.999 : 0.9985)) continue;
        printf("attention_i8: cosine %.6f to exact attention, %zu keys x %zu, options %d\n", lowest, keys,
               size, has_options);
        close = false;
      }
    }
  }
  return close;
}

// A mean that all keys share, as biases of projections give, costs nothing.
bool ignores_means(Random& random) {
  Problem problem(random, {1, 1, 1, 64, 64, 32});
  if (attend(problem.args, nullptr) != FERRULE_OK) return false;
  const Buffer<float> before = problem.output;
  for (size_t k = 0; k < 64; ++k) problem.keys[k * problem.args.keys.token_stride + 5] += 50;
  if (attend(problem.args, nullptr) != FERRULE_OK) return false;
  return cosine(before.data(), problem.output.data(), before.size()) > 0.9999;
}

bool treats_what_is_not_finite(Random& random) {
  const Shape shape = {1, 1, 1, 20, 40, 32};
  bool right = true;
  for (const float wild : {NAN, INFINITY, -INFINITY}) {
    Problem query(random, shape), key(random, shape), value(random, shape);
    const auto at = [](const ferrule_attention_args& args, size_t row, size_t c) {
      return args.output[row * args.output_stride + c];
    };
    query.queries[3 * query.args.query_stride + 7] = wild;
    right &= attend(query.args, nullptr) == FERRULE_OK && isnan(at(query.args, 3, 0)) &&
             isfinite(at(query.args, 4, 7));
    key.keys[9 * key.args.keys.token_stride] = wild;
    right &=
        attend(key.args, nullptr) == FERRULE_OK && isnan(at(key.args, 0, 31)) && isnan(at(key.args, 19, 0));
    value.values[9 * value.args.values.token_stride + 4] = wild;
    right &= attend(value.args, nullptr) == FERRULE_OK && isnan(at(value.args, 19, 4)) &&
             isfinite(at(value.args, 19, 5));
  }
  Problem hidden(random, shape);
  hidden.args.bias = hidden.bias.data();
  for (size_t k = 0; k < 40; ++k) hidden.bias[k] = -INFINITY;
  hidden.args.bias_key_stride = 1;
  right &= attend(hidden.args, nullptr) == FERRULE_OK && all_finite(hidden.output);
  for (size_t c = 0; c < 32; ++c) right &= hidden.args.output[c] == 0;
  hidden.args.bias = nullptr;
  hidden.args.key_ends = hidden.ends.data();
  std::fill_n(hidden.args.output, 32, 1.0f);
  right &= attend(hidden.args, nullptr) == FERRULE_OK && hidden.args.output[31] == 0;
  return right;
}

bool op_refuses(Random& random) {
  Problem problem(random, {1, 1, 2, 9, 5, 32});
  const ferrule_attention_args good = problem.args;
  const auto with = [&](auto change) {
    ferrule_attention_args args = good;
    change(args);
    return attend(args, nullptr);
  };
  using Args = ferrule_attention_args;
  bool refuses = attend(good, nullptr) == FERRULE_OK && ferrule_attention_i8_pays(&good, "scalar");
  refuses &= with([](Args& a) { a.queries = nullptr; }) == FERRULE_BAD_SHAPE;
  refuses &= with([](Args& a) { a.keys.kind = FERRULE_KV_I8; }) != FERRULE_OK;
  refuses &= with([&](Args& a) { a.slopes = problem.bias.data(); }) == FERRULE_BAD_VALUE;
  refuses &= with([&](Args& a) { a.log_sums = problem.bias.data(); }) == FERRULE_BAD_VALUE;
  refuses &=
      with([&](Args& a) { a.bias = problem.bias.data(), a.bias_query_stride = 1; }) == FERRULE_BAD_LAYOUT;
  refuses &=
      with([&](Args& a) { a.bias = problem.bias.data(), a.bias_head_stride = 1; }) == FERRULE_BAD_LAYOUT;
  refuses &= with([](Args& a) {
               a.head_size = a.query_stride = a.output_stride = a.keys.token_stride = a.values.token_stride =
                   65537;
             }) == FERRULE_TOO_LARGE;
  refuses &= with([](Args& a) { a.key_count = SIZE_MAX; }) == FERRULE_TOO_LARGE;
  refuses &= with([](Args& a) { a.query_count = 0; }) == FERRULE_OK;
  refuses &= with([](Args& a) { a.key_count = 0, a.keys = a.values = {}; }) == FERRULE_OK;
  refuses &= attend(good, nullptr, "nonsense") == FERRULE_BAD_ISA;
  refuses &= ferrule_attention_i8(&good, nullptr, nullptr, nullptr, 1 << 20) == FERRULE_BAD_SHAPE;
  alignas(FERRULE_ALIGNMENT) static unsigned char memory[65536];
  refuses &= ferrule_attention_i8(&good, nullptr, nullptr, memory, 64) == FERRULE_BAD_SHAPE;
  refuses &= ferrule_attention_i8(&good, nullptr, nullptr, memory + 4, 65532) == FERRULE_BAD_LAYOUT;
  return refuses;
}

}  // namespace

bool attention_i8_op_passes() {
  Random random(11);
  ferrule_pool* pool = ferrule_pool_create(3);
  const bool close = is_close_to_exact(random, pool) && is_close_to_exact(random, nullptr);
  ferrule_pool_destroy(pool);
  return close && ignores_means(random) && treats_what_is_not_finite(random) && op_refuses(random);
}

}  // namespace ferrule::tests
