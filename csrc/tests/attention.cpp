#include <algorithm>

#include "ferrule/arena.h"
#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

namespace {

// Strides of [batch][head][token][width] in memory, the heads before the tokens or after, with gaps.
struct Layout {
  size_t batch, head, token, total;
};

Layout draw_layout(Random& random, size_t batch, size_t heads, size_t tokens, size_t width) {
  const size_t row = width + (random.chance(3) ? random.size(5) : 0);
  const bool heads_last = random.chance(2);
  const size_t span = heads * tokens * row + random.size(3);
  return {span, heads_last ? row : tokens * row, heads_last ? heads * row : row, batch * span};
}

size_t row_bytes(int kind, size_t size) {
  return kind == FERRULE_KV_I8 ? size : (size * (kind == FERRULE_KV_I4 ? 4 : 2) + 7) / 8;
}

// Keys or values with the memory that they lie in.
struct Cache {
  Buffer<float> floats, scales, offsets;
  Buffer<unsigned char> codes;
  ferrule_kv kv = {};

  Cache(Random& random, int kind, size_t batch, size_t heads, size_t tokens, size_t size)
      : floats(random, 0), scales(random, 0), offsets(random, 0), codes(random, 0) {
    kv.kind = kind;
    const Layout layout =
        draw_layout(random, batch, heads, tokens, kind == FERRULE_KV_F32 ? size : row_bytes(kind, size));
    kv.batch_stride = layout.batch;
    kv.head_stride = layout.head;
    kv.token_stride = layout.token;
    if (kind == FERRULE_KV_F32) {
      floats = draw_normal(random, layout.total);
      kv.data = floats.data();
      return;
    }
    codes = Buffer<unsigned char>(random, layout.total);
    for (size_t i = 0; i < layout.total; ++i) codes[i] = static_cast<unsigned char>(random.bits());
    kv.data = codes.data();
    kv.group = random.chance(2) ? 0 : 16 * static_cast<size_t>(random.integer(1, 4));
    const size_t group = kv.group && kv.group < size ? kv.group : size;
    const Layout steps = draw_layout(random, batch, heads, tokens, (size + group - 1) / group);
    kv.scale_batch_stride = steps.batch;
    kv.scale_head_stride = steps.head;
    kv.scale_token_stride = steps.token;
    const float step = kind == FERRULE_KV_I8 ? 0.02f : kind == FERRULE_KV_I4 ? 0.3f : 1.2f;
    scales = Buffer<float>(random, steps.total);
    offsets = Buffer<float>(random, steps.total);
    for (size_t i = 0; i < steps.total; ++i) {
      scales[i] = step * random.uniform(0.2f, 1);
      offsets[i] = kind == FERRULE_KV_I8 ? random.uniform(-1, 1) : -2 * random.uniform(0.5f, 1);
    }
    kv.scales = scales.data();
    kv.offsets = kind == FERRULE_KV_I8 && random.chance(2) ? nullptr : offsets.data();
  }
};

int draw_kind(Random& random) {
  return random.chance(2) ? FERRULE_KV_F32 : static_cast<int>(random.integer(0, 3));
}

// A random problem with its memory; `args` points into it.
struct Problem {
  ferrule_attention_args args = {};
  Buffer<float> queries, output, log_sums, bias, slopes, sizes;
  Buffer<int32_t> begins, ends;
  Cache keys, values;

  Problem(Random& random, size_t batch, size_t kv_heads, size_t group, size_t query_count, size_t key_count,
          size_t size)
      : queries(random, 0),
        output(random, 0),
        log_sums(random, batch * kv_heads * group * query_count),
        bias(random, 0),
        slopes(draw_normal(random, kv_heads * group)),
        sizes(random, batch * key_count),
        begins(random, batch),
        ends(random, batch),
        keys(random, draw_kind(random), batch, kv_heads, key_count, size),
        values(random, draw_kind(random), batch, kv_heads, key_count, size) {
    args.batch = batch;
    args.query_heads = kv_heads * group;
    args.kv_heads = kv_heads;
    args.query_count = query_count;
    args.key_count = key_count;
    args.head_size = size;
    args.scale = random.chance(3) ? random.uniform(0, 1) : 1 / sqrtf(static_cast<float>(size));
    args.causal = random.chance(2);
    args.keys = keys.kv;
    args.values = values.kv;
    args.slices = 1;
    draw_ends(random);
    if (random.chance(3)) draw_bias(random);
    if (random.chance(4)) args.slopes = slopes.data();
    if (random.chance(4)) args.sizes = sizes.data();
    for (size_t i = 0; i < sizes.size(); ++i) sizes[i] = static_cast<float>(random.integer(1, 9));
    if (random.chance(3)) draw_padding(random);
    if (random.chance(20) && queries.size()) queries[random.bits() % queries.size()] = NAN;
    if (random.chance(20) && keys.floats.size()) keys.floats[random.bits() % keys.floats.size()] = NAN;
  }

  void draw_ends(Random& random) {
    Layout layout = draw_layout(random, args.batch, args.query_heads, args.query_count, args.head_size);
    queries = draw_normal(random, layout.total);
    args.queries = queries.data();
    args.query_batch_stride = layout.batch;
    args.query_head_stride = layout.head;
    args.query_stride = layout.token;
    layout = draw_layout(random, args.batch, args.query_heads, args.query_count, args.head_size);
    output = Buffer<float>(random, layout.total);
    args.output = output.data();
    args.output_batch_stride = layout.batch;
    args.output_head_stride = layout.head;
    args.output_stride = layout.token;
    args.log_sums = random.chance(4) ? nullptr : log_sums.data();
  }

  void draw_bias(Random& random) {
    args.bias_key_stride = static_cast<size_t>(random.integer(0, 5)) == 0 ? random.size(2) : 1;
    size_t span = args.key_count * args.bias_key_stride + 1;
    const auto stride = [&](size_t count) {
      if (random.chance(3)) return size_t{0};
      const size_t step = span + random.size(2);
      span = step * count + 1;
      return step;
    };
    args.bias_query_stride = stride(args.query_count);
    args.bias_head_stride = stride(args.query_heads);
    args.bias_batch_stride = stride(args.batch);
    bias = draw_normal(random, span);
    const int special = static_cast<int>(random.integer(0, 3));
    for (size_t i = 0; i < span && special == 0; ++i) {
      if (random.chance(2)) bias[i] = -INFINITY;
    }
    if (special == 1 && random.chance(10)) bias[random.bits() % span] = INFINITY;
    if (special == 2 && random.chance(4)) bias[random.bits() % span] = NAN;
    args.bias = bias.data();
  }

  void draw_padding(Random& random) {
    const auto most = static_cast<int64_t>(args.key_count);
    for (size_t b = 0; b < args.batch; ++b) {
      begins[b] = static_cast<int32_t>(random.integer(0, std::min<int64_t>(most, 20)));
      ends[b] = static_cast<int32_t>(random.integer(0, most));
    }
    args.key_begins = random.chance(2) ? begins.data() : nullptr;
    args.key_ends = random.chance(3) ? nullptr : ends.data();
  }
};

// Sizes of which most are small, so that many cases can be run, and whose product stays within a budget.
Problem draw_problem(Random& random, size_t most_queries) {
  const size_t budget = random.chance(100) ? 200000 : 5000;
  const size_t batch = random.chance(4) ? 2 : 1, kv_heads = random.chance(3) ? 2 : 1;
  const size_t group = static_cast<size_t>(random.integer(1, 3));
  const size_t size =
      random.chance(4) ? 16 * static_cast<size_t>(random.integer(1, 8)) : random.size(159) + 1;
  const size_t left = budget / (batch * kv_heads * group * size) + 1;
  const size_t key_count = random.size(std::min<size_t>(left, 300));
  const size_t query_count = random.size(std::min(left / (key_count + 1) + 1, most_queries));
  return Problem(random, batch, kv_heads, group, query_count, key_count, size);
}

void describe(Rig& rig, const ferrule_attention_args& args) {
  rig.describe(
      "batch %zu heads %zu/%zu queries %zu keys %zu size %zu causal %d kinds %d %d groups %zu %zu bias %d "
      "slopes %d sizes %d "
      "begins %d ends %d block %zu slices %zu",
      args.batch, args.query_heads, args.kv_heads, args.query_count, args.key_count, args.head_size,
      args.causal, args.keys.kind, args.values.kind, args.keys.group, args.values.group, args.bias != nullptr,
      args.slopes != nullptr, args.sizes != nullptr, args.key_begins != nullptr, args.key_ends != nullptr,
      args.query_block, args.slices);
}

// Partial results relative to their own sums, which do not depend on the base that a kernel chose: base +
// log2(sum), 1, output / sum.
void normalize_partials(Buffer<float>& partials, size_t size) {
  for (size_t p = 0; p + size <= partials.size(); p += size) {
    const float sum = partials[p + 1];
    partials[p] = sum == 0 ? -INFINITY : partials[p] + log2f(sum);
    for (size_t i = 1; i < size; ++i) partials[p + i] = sum == 0 ? partials[p + i] : partials[p + i] / sum;
  }
}

// Runs both kernels over all units and compares what they wrote.
void compare(Rig& rig, Problem& problem, ferrule_attention_fn* kernel, ferrule_attention_fn* scalar,
             size_t units, size_t rows) {
  ferrule_attention_args& args = problem.args;
  describe(rig, args);
  args.query_block = args.query_block ? args.query_block : 1;
  const size_t width = (args.head_size + 15) / 16 * 16;
  const size_t floats = (rows + 32) * (2 * width + 18) + 192 * width + 7 * 64;
  Buffer<double> scratch(rig.random, floats / 2 + 1);
  Buffer<float> want = problem.output, want_sums = problem.log_sums;
  Buffer<float> partials(rig.random, args.slices > 1 ? units * rows * (args.head_size + 2) : 0),
      want_partials = partials;

  float* const output = args.output;
  args.output = want.data();
  args.log_sums = args.log_sums ? want_sums.data() : nullptr;
  args.partials = want_partials.data();
  scalar(&args, 0, units, scratch.data());
  args.output = output;
  args.log_sums = args.log_sums ? problem.log_sums.data() : nullptr;
  args.partials = partials.data();
  kernel(&args, 0, units, scratch.data());

  rig.expect_close("output", problem.output.data(), want.data(), want.size(), 1e-4f, 0);
  rig.expect_close("log sums", problem.log_sums.data(), want_sums.data(), want_sums.size(), 1e-4f, 1e-5f);
  normalize_partials(partials, args.head_size + 2);
  normalize_partials(want_partials, args.head_size + 2);
  rig.expect_close("partials", partials.data(), want_partials.data(), partials.size(), 1e-4f, 1e-4f);
  rig.expect(problem.output.intact() && problem.log_sums.intact() && partials.intact(),
             "wrote past its output");
  rig.expect(scratch.intact(), "wrote past its scratch memory");
}

}  // namespace

void test_attention_prefill(Rig& rig, ferrule_attention_prefill_fn* kernel) {
  Problem problem = draw_problem(rig.random, 60);
  ferrule_attention_args& args = problem.args;
  args.query_block = static_cast<size_t>(rig.random.integer(1, 30));
  const size_t blocks = (args.query_count + args.query_block - 1) / args.query_block;
  compare(rig, problem, kernel, ferrule_attention_prefill_scalar, args.batch * args.query_heads * blocks,
          args.query_block);
}

void test_attention_decode(Rig& rig, ferrule_attention_decode_fn* kernel) {
  Problem problem = draw_problem(rig.random, 4);
  ferrule_attention_args& args = problem.args;
  args.slices = rig.random.chance(2) ? 1 : static_cast<size_t>(rig.random.integer(2, 4));
  compare(rig, problem, kernel, ferrule_attention_decode_scalar, args.batch * args.kv_heads * args.slices,
          args.query_heads / args.kv_heads * args.query_count);
}

void test_quantize_kv(Rig& rig, ferrule_quantize_kv_fn* kernel) {
  Random& random = rig.random;
  const size_t batch = random.size(2), heads = random.size(2), tokens = random.size(4),
               size = random.size(159) + 1;
  ferrule_quantize_kv_args args = {};
  args.kind = static_cast<int>(random.integer(FERRULE_KV_I8, FERRULE_KV_I2));
  args.group = random.chance(2) ? 0 : 16 * static_cast<size_t>(random.integer(1, 4));
  args.clip = random.chance(2) ? 1 : random.uniform(0.5f, 1);
  args.batch = batch;
  args.heads = heads;
  args.tokens = tokens;
  args.head_size = size;
  rig.describe("%zu x %zu x %zu x %zu kind %d group %zu", batch, heads, tokens, size, args.kind, args.group);
  const size_t group = args.group && args.group < size ? args.group : size;
  const Layout in = draw_layout(random, batch, heads, tokens, size);
  const Layout out = draw_layout(random, batch, heads, tokens, row_bytes(args.kind, size));
  const Layout steps = draw_layout(random, batch, heads, tokens, (size + group - 1) / group);
  Buffer<float> input = draw_normal(random, in.total);
  if (in.total && random.chance(10)) input[random.bits() % in.total] = random.chance(2) ? NAN : INFINITY;
  if (random.chance(10)) std::fill_n(input.data(), in.total, 0.0f);
  Buffer<unsigned char> codes(random, out.total), want = codes;
  Buffer<float> scales(random, steps.total), want_scales = scales, offsets = scales, want_offsets = scales;
  args.input = input.data();
  args.input_batch_stride = in.batch;
  args.input_head_stride = in.head;
  args.input_token_stride = in.token;
  args.code_batch_stride = out.batch;
  args.code_head_stride = out.head;
  args.code_token_stride = out.token;
  args.scale_batch_stride = steps.batch;
  args.scale_head_stride = steps.head;
  args.scale_token_stride = steps.token;
  const bool symmetric = args.kind == FERRULE_KV_I8 && random.chance(2);

  args.codes = want.data();
  args.scales = want_scales.data();
  args.offsets = symmetric ? nullptr : want_offsets.data();
  ferrule_quantize_kv_scalar(&args, 0, batch * heads * tokens, nullptr);
  args.codes = codes.data();
  args.scales = scales.data();
  args.offsets = symmetric ? nullptr : offsets.data();
  kernel(&args, 0, batch * heads * tokens, nullptr);

  rig.expect(std::equal(codes.data(), codes.data() + codes.size(), want.data()),
             "codes differ from the reference");
  rig.expect_close("scales", scales.data(), want_scales.data(), scales.size(), 0, 0);
  rig.expect_close("offsets", offsets.data(), want_offsets.data(), offsets.size(), 0, 0);
  rig.expect(codes.intact() && scales.intact() && offsets.intact(), "wrote past its output");
}

namespace {

// The op on a random problem that is large enough to be divided, against the scalar kernel.
bool op_agrees(Random& random, ferrule_pool* pool, size_t query_count, size_t key_count) {
  Problem problem(random, 2, 2, 2, query_count, key_count, 48);
  ferrule_attention_args& args = problem.args;
  ferrule_arena arena = {};
  const size_t bytes = ferrule_attention_scratch(&args, ferrule_pool_threads(pool));
  if (bytes == 0 || !ferrule_arena_create(&arena, bytes)) return false;
  const ferrule_status status = ferrule_attention(&args, nullptr, pool, arena.memory, bytes);
  ferrule_arena_destroy(&arena);

  Buffer<float> want = problem.output;
  Buffer<double> scratch(random, args.head_size);
  args.output = want.data();
  args.log_sums = nullptr;
  args.query_block = query_count;
  ferrule_attention_prefill_scalar(&args, 0, args.batch * args.query_heads, scratch.data());
  Rig rig("attention_op", "", 0);
  describe(rig, args);
  rig.expect_close("output", problem.output.data(), want.data(), want.size(), 1e-4f, 0);
  rig.expect(status == FERRULE_OK && problem.output.intact(), "status or a stray write");
  return !rig.failed();
}

// Decode over slices of the keys gives what one pass gives, to 1e-5.
bool slices_agree(Random& random, ferrule_pool* pool) {
  Problem problem(random, 1, 1, 3, 1, 2000, 64);
  ferrule_attention_args& args = problem.args;
  ferrule_arena arena = {};
  const size_t bytes = ferrule_attention_scratch(&args, ferrule_pool_threads(pool));
  if (!ferrule_arena_create(&arena, bytes)) return false;
  args.log_sums = problem.log_sums.data();
  bool agree = ferrule_attention(&args, nullptr, nullptr, arena.memory, bytes) == FERRULE_OK;
  const Buffer<float> whole = problem.output, whole_sums = problem.log_sums;
  agree &= ferrule_attention(&args, nullptr, pool, arena.memory, bytes) == FERRULE_OK;
  ferrule_arena_destroy(&arena);
  Rig rig("attention_op", "slices", 0);
  describe(rig, args);
  rig.expect_close("output", problem.output.data(), whole.data(), whole.size(), 1e-5f, 0);
  rig.expect_close("log sums", problem.log_sums.data(), whole_sums.data(), whole_sums.size(), 1e-5f, 1e-6f);
  return agree && !rig.failed();
}

bool op_refuses(Random& random) {
  constexpr size_t kBytes = 262144;
  alignas(FERRULE_ALIGNMENT) static unsigned char memory[kBytes];
  Problem problem(random, 1, 1, 2, 3, 5, 32);
  problem.keys = Cache(random, FERRULE_KV_F32, 1, 1, 5, 32);
  problem.values = Cache(random, FERRULE_KV_I4, 1, 1, 5, 32);
  ferrule_attention_args good = problem.args;
  good.keys = problem.keys.kv;
  good.values = problem.values.kv;
  good.key_ends = problem.ends.data();
  problem.ends[0] = 5;
  const auto in = [](const ferrule_attention_args& args, void* scratch, size_t bytes) {
    return ferrule_attention(&args, nullptr, nullptr, scratch, bytes);
  };
  const auto status = [&](const ferrule_attention_args& args) { return in(args, memory, kBytes); };
  const auto with = [&](auto change) {
    ferrule_attention_args args = good;
    change(args);
    return status(args);
  };
  using Args = ferrule_attention_args;
  bool refuses = status(good) == FERRULE_OK;
  refuses &= with([](Args& a) { a.queries = nullptr; }) == FERRULE_BAD_SHAPE;
  refuses &= with([](Args& a) { a.keys.data = nullptr; }) == FERRULE_BAD_SHAPE;
  refuses &= with([](Args& a) { a.values.scales = nullptr; }) == FERRULE_BAD_SHAPE;
  refuses &= with([](Args& a) { a.values.offsets = nullptr; }) == FERRULE_BAD_SHAPE;
  refuses &= with([](Args& a) { a.query_heads = 3, a.kv_heads = 2; }) == FERRULE_BAD_SHAPE;
  refuses &= with([](Args& a) { a.kv_heads = 0; }) == FERRULE_BAD_SHAPE;
  refuses &= with([](Args& a) { a.keys.kind = 9; }) == FERRULE_BAD_TYPE;
  refuses &= with([](Args& a) { a.scale = NAN; }) == FERRULE_BAD_VALUE;
  refuses &= with([](Args& a) { a.query_stride = 31; }) == FERRULE_BAD_LAYOUT;
  refuses &= with([](Args& a) { a.values.token_stride = 15; }) == FERRULE_BAD_LAYOUT;
  refuses &= with([](Args& a) { a.values.group = 8; }) == FERRULE_BAD_LAYOUT;
  refuses &= with([](Args& a) { a.key_count = SIZE_MAX; }) == FERRULE_TOO_LARGE;
  refuses &= with([](Args& a) { a.head_size = SIZE_MAX / 2; }) != FERRULE_OK;
  refuses &= with([](Args& a) { a.batch = SIZE_MAX / 2, a.key_ends = nullptr; }) == FERRULE_TOO_LARGE;
  refuses &= with([](Args& a) { a.query_count = 0; }) == FERRULE_OK;
  refuses &=
      with([](Args& a) { a.key_count = 0, a.key_ends = nullptr, a.keys = a.values = {}; }) == FERRULE_OK;
  refuses &= in(good, nullptr, kBytes) == FERRULE_BAD_SHAPE && in(good, memory, 64) == FERRULE_BAD_SHAPE;
  refuses &= in(good, memory + 4, kBytes - 4) == FERRULE_BAD_LAYOUT;
  refuses &= ferrule_attention(&good, "nonsense", nullptr, memory, kBytes) == FERRULE_BAD_ISA;
  problem.ends[0] = 6;
  return refuses && status(good) == FERRULE_BAD_VALUE;
}

bool quantize_agrees(Random& random, ferrule_pool* pool) {
  const size_t tokens = 300, size = 80;
  const Buffer<float> input = draw_normal(random, tokens * size);
  Buffer<unsigned char> codes(random, tokens * size / 2);
  Buffer<float> scales(random, tokens * 3), offsets = scales;
  ferrule_quantize_kv_args args = {};
  args.input = input.data();
  args.input_token_stride = size;
  args.kind = FERRULE_KV_I4;
  args.codes = codes.data();
  args.code_token_stride = size / 2;
  args.scales = scales.data();
  args.offsets = offsets.data();
  args.scale_token_stride = 3;
  args.batch = args.heads = 1;
  args.tokens = tokens;
  args.head_size = size;
  args.group = 32;
  args.clip = 1;
  bool agrees = ferrule_quantize_kv(&args, nullptr, pool) == FERRULE_OK;
  // What was written is within half a step of what was read.
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t c = 0; c < size; ++c) {
      const int code = codes[t * size / 2 + c % (size / 2)] >> (c < size / 2 ? 0 : 4) & 15;
      const float step = scales[t * 3 + c / 32],
                  x = step * static_cast<float>(code) + offsets[t * 3 + c / 32];
      agrees &= fabsf(x - input[t * size + c]) <= 0.5001f * step;
    }
  }
  const auto with = [&](auto change) {
    ferrule_quantize_kv_args changed = args;
    change(changed);
    return ferrule_quantize_kv(&changed, nullptr, pool);
  };
  using Args = ferrule_quantize_kv_args;
  agrees &= with([](Args& a) { a.kind = FERRULE_KV_F32; }) == FERRULE_BAD_TYPE;
  agrees &= with([](Args& a) { a.offsets = nullptr; }) == FERRULE_BAD_SHAPE;
  agrees &= with([](Args& a) { a.codes = nullptr; }) == FERRULE_BAD_SHAPE;
  agrees &= with([](Args& a) { a.clip = 0; }) == FERRULE_BAD_VALUE;
  agrees &= with([](Args& a) { a.group = 20; }) == FERRULE_BAD_LAYOUT;
  agrees &= with([](Args& a) { a.scale_token_stride = 2; }) == FERRULE_BAD_LAYOUT;
  agrees &= with([](Args& a) { a.tokens = SIZE_MAX; }) == FERRULE_TOO_LARGE;
  agrees &= with([](Args& a) { a.tokens = 0; }) == FERRULE_OK;
  return agrees;
}

}  // namespace

bool attention_op_passes() {
  Random random(5);
  ferrule_pool* pool = ferrule_pool_create(2);
  bool passes = pool != nullptr;
  for (int i = 0; i < 12 && passes; ++i) {
    ferrule_pool* with = i % 2 ? pool : nullptr;
    passes =
        op_agrees(random, with, 200, 90) && op_agrees(random, with, 2, 700) && slices_agree(random, pool);
  }
  passes = passes && op_refuses(random) && quantize_agrees(random, nullptr) && quantize_agrees(random, pool);
  ferrule_pool_destroy(pool);
  return passes;
}

}  // namespace ferrule::tests
