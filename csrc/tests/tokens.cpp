#include "ferrule/tokens.h"

#include <algorithm>

#include "ferrule/arena.h"
#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

namespace {

// Sizes of tokens, a few of them padding, and the most at the end.
Buffer<float> draw_sizes(Random& random, size_t batch, size_t tokens) {
  Buffer<float> sizes(random, batch * tokens, 1.0f);
  for (size_t b = 0; b < batch; ++b) {
    const size_t real = random.chance(2) ? tokens : random.size(tokens);
    for (size_t t = 0; t < tokens; ++t) {
      const bool padding = t >= real || random.chance(30);
      sizes[b * tokens + t] = padding ? 0.0f : static_cast<float>(random.integer(1, 4));
    }
  }
  return sizes;
}

// Whole numbers give products that are equal; some tokens repeat, some have no value.
Buffer<float> draw_metric(Random& random, size_t count, size_t width) {
  Buffer<float> metric = draw_normal(random, count);
  const bool coarse = random.chance(2);
  for (size_t i = 0; coarse && i < count; ++i) metric[i] = static_cast<float>(random.integer(-1, 1));
  if (random.chance(3)) {
    for (size_t i = 2 * width; i < count; ++i)
      metric[i] = random.chance(3) ? metric[i] : metric[i - 2 * width];
  }
  if (count > 0 && random.chance(8))
    metric[static_cast<size_t>(random.integer(0, static_cast<int64_t>(count) - 1))] = NAN;
  return metric;
}

}  // namespace

void test_token_match(Rig& rig, ferrule_token_match_fn* kernel) {
  Random& random = rig.random;
  ferrule_token_match_args args = {};
  args.batch = random.size(3);
  args.heads = random.chance(2) ? 1 : static_cast<size_t>(random.integer(1, 3));
  args.tokens = random.chance(30) ? random.size(400) : random.size(40);
  args.width = random.size(args.tokens > 100 ? 8 : 40) + 1;
  args.protected_tokens = random.size(3);
  args.count = random.size(args.tokens);
  args.token_stride = args.width + random.size(2);
  args.head_stride = args.tokens * args.token_stride;
  args.batch_stride = args.heads * args.head_stride;
  const bool has_sizes = random.chance(2), has_counts = random.chance(3);
  rig.describe("batch %zu heads %zu tokens %zu width %zu protected %zu count %zu sizes %d counts %d",
               args.batch, args.heads, args.tokens, args.width, args.protected_tokens, args.count, has_sizes,
               has_counts);

  const Buffer<float> metric = draw_metric(random, args.batch * args.batch_stride, args.token_stride);
  const Buffer<float> sizes = draw_sizes(random, args.batch, args.tokens);
  Buffer<int32_t> counts(random, args.batch);
  for (size_t i = 0; i < args.batch; ++i) counts[i] = static_cast<int32_t>(random.size(args.tokens));
  Buffer<int32_t> plan(random, args.batch * args.tokens, -1), left(random, args.batch, -1);
  Buffer<int32_t> want_plan = plan, want_left = left;
  args.metric = metric.data();
  args.sizes = has_sizes ? sizes.data() : nullptr;
  args.counts = has_counts ? counts.data() : nullptr;
  ferrule_arena arena;
  ferrule_arena_create(&arena, ferrule_token_match_scratch(&args, 1));
  args.plan = want_plan.data();
  args.left = want_left.data();
  ferrule_token_match_scalar(&args, 0, args.batch, arena.memory);
  args.plan = plan.data();
  args.left = left.data();
  kernel(&args, 0, args.batch, arena.memory);
  ferrule_arena_destroy(&arena);

  for (size_t i = 0; i < plan.size(); ++i) rig.expect(plan[i] == want_plan[i], "another plan");
  for (size_t i = 0; i < left.size(); ++i)
    rig.expect(left[i] == want_left[i], "another number of tokens left");
  for (size_t i = 0; i < plan.size(); ++i) {
    rig.expect(plan[i] >= 0 && plan[i] < std::max(left[i / args.tokens], 1), "a plan beyond the tokens left");
  }
  rig.expect(plan.intact() && left.intact(), "wrote past its output");
}

void test_token_merge(Rig& rig, ferrule_token_merge_fn* kernel) {
  Random& random = rig.random;
  ferrule_token_merge_args args = {};
  args.batch = random.size(3);
  args.tokens = random.chance(20) ? random.size(200) : random.size(20);
  args.left = random.size(args.tokens) + 1;
  args.width = random.size(70) + 1;
  args.input_stride = args.width + random.size(2);
  args.output_stride = args.width + random.size(2);
  args.input_batch_stride = args.tokens * args.input_stride;
  args.output_batch_stride = args.left * args.output_stride;
  const bool has_sizes = random.chance(2), keeps_sizes = random.chance(2);
  rig.describe("batch %zu tokens %zu left %zu width %zu sizes %d %d", args.batch, args.tokens, args.left,
               args.width, has_sizes, keeps_sizes);

  const Buffer<float> input = draw_normal(random, args.batch * args.input_batch_stride);
  const Buffer<float> sizes = draw_sizes(random, args.batch, args.tokens);
  Buffer<int32_t> plan(random, args.batch * args.tokens);
  for (size_t i = 0; i < plan.size(); ++i)
    plan[i] = static_cast<int32_t>(random.integer(0, static_cast<int64_t>(args.left) - 1));
  Buffer<float> output(random, args.batch * args.output_batch_stride, 7.0f),
      merged(random, args.batch * args.left, 7.0f);
  Buffer<float> want = output, want_merged = merged;
  args.input = input.data();
  args.sizes = has_sizes ? sizes.data() : nullptr;
  args.plan = plan.data();
  const size_t units = args.batch * ((args.left + FERRULE_MERGE_TOKENS - 1) / FERRULE_MERGE_TOKENS);
  args.output = want.data();
  args.merged_sizes = keeps_sizes ? want_merged.data() : nullptr;
  ferrule_token_merge_scalar(&args, 0, units, nullptr);
  args.output = output.data();
  args.merged_sizes = keeps_sizes ? merged.data() : nullptr;
  kernel(&args, 0, units, nullptr);
  rig.expect_close("output", output.data(), want.data(), want.size(), 2e-6f, 1e-6f);
  rig.expect_close("sizes", merged.data(), want_merged.data(), merged.size(), 0, 0);
  rig.expect(output.intact() && merged.intact(), "wrote past its output");
}

void test_token_unmerge(Rig& rig, ferrule_token_unmerge_fn* kernel) {
  Random& random = rig.random;
  const size_t batch = random.size(3), tokens = random.size(20), left = random.size(tokens) + 1,
               width = random.size(30) + 1;
  const size_t stride = width + random.size(2);
  rig.describe("batch %zu tokens %zu left %zu width %zu", batch, tokens, left, width);
  const Buffer<float> input = draw_normal(random, batch * left * stride);
  Buffer<float> output(random, batch * tokens * stride);
  Buffer<int32_t> plan(random, batch * tokens);
  for (size_t i = 0; i < plan.size(); ++i)
    plan[i] = static_cast<int32_t>(random.integer(0, static_cast<int64_t>(left) - 1));
  const ferrule_token_unmerge_args args = {
      input.data(), plan.data(), output.data(), left * stride, stride, tokens * stride,
      stride,       batch,       tokens,        left,          width};
  kernel(&args, 0, batch * tokens, nullptr);
  for (size_t i = 0; i < output.size(); ++i) {
    const size_t unit = i / stride, column = i % stride;
    const size_t from = unit / tokens * left + static_cast<size_t>(plan[unit]);
    rig.expect(output[i] == (column < width ? input[from * stride + column] : 0.0f), "another value");
  }
  rig.expect(output.intact(), "wrote past its output");
}

namespace {

constexpr size_t kBatch = 3, kTokens = 197, kWidth = 24, kCount = 16, kLeft = kTokens - kCount;

// Matching, merging and giving back over a pool; what is left must be what the sizes say.
bool ops_run() {
  Random random(5);
  const Buffer<float> metric = draw_normal(random, kBatch * kTokens * kWidth);
  Buffer<int32_t> plan(random, kBatch * kTokens), again(random, kBatch * kTokens), left(random, kBatch);
  ferrule_token_match_args match = {};
  match.metric = metric.data();
  match.plan = plan.data();
  match.left = left.data();
  match.batch_stride = kTokens * kWidth, match.token_stride = kWidth;
  match.batch = kBatch, match.heads = 1, match.tokens = kTokens, match.width = kWidth;
  match.protected_tokens = 1, match.count = kCount;
  ferrule_pool* pool = ferrule_pool_create(2);
  ferrule_arena arena;
  ferrule_arena_create(&arena, ferrule_token_match_scratch(&match, 2));
  bool ok = ferrule_token_match(&match, "scalar", nullptr, arena.memory) == FERRULE_OK;
  match.plan = again.data();
  ok = ok && ferrule_token_match(&match, nullptr, pool, arena.memory) == FERRULE_OK;
  ok = ok && memcmp(plan.data(), again.data(), plan.size() * sizeof(int32_t)) == 0 && left[2] == kLeft;

  Buffer<float> merged(random, kBatch * kLeft * kWidth), sizes(random, kBatch * kLeft);
  Buffer<float> back(random, kBatch * kTokens * kWidth);
  const ferrule_token_merge_args merge = {metric.data(), nullptr,          plan.data(), merged.data(),
                                          sizes.data(),  kTokens * kWidth, kWidth,      kLeft * kWidth,
                                          kWidth,        kBatch,           kTokens,     kLeft,
                                          kWidth};
  const ferrule_token_unmerge_args unmerge = {
      merged.data(), plan.data(), back.data(), kLeft * kWidth, kWidth, kTokens * kWidth,
      kWidth,        kBatch,      kTokens,     kLeft,          kWidth};
  ok = ok && ferrule_token_merge(&merge, nullptr, pool) == FERRULE_OK;
  ok = ok && ferrule_token_unmerge(&unmerge, nullptr, pool) == FERRULE_OK;
  float total = 0;
  for (size_t i = 0; i < sizes.size(); ++i) total += sizes[i];
  ok = ok && total == kBatch * kTokens;
  for (size_t i = 0; i < back.size(); ++i) {
    const size_t token = i / kWidth, place = token / kTokens * kLeft + static_cast<size_t>(plan[token]);
    ok = ok && (sizes[place] > 1 || back[i] == metric[i]);
  }
  ferrule_arena_destroy(&arena);
  ferrule_pool_destroy(pool);
  return ok;
}

bool match_refuses() {
  float metric[8] = {1, 2, 3, 4, 5, 6, 7, 8}, sizes[4] = {1, 1, 1, 1};
  int32_t plan[4], counts[1] = {-1};
  const ferrule_token_match_args good = {metric, nullptr, nullptr, plan, nullptr, 8, 8, 2, 1, 1, 4, 2, 0, 1};
  ferrule_arena arena;
  ferrule_arena_create(&arena, ferrule_token_match_scratch(&good, 1));
  const auto is = [&](ferrule_status status, auto change) {
    ferrule_token_match_args args = good;
    change(args);
    return ferrule_token_match(&args, nullptr, nullptr, arena.memory) == status;
  };
  using Args = ferrule_token_match_args;
  bool ok = is(FERRULE_OK, [](Args&) {}) &&
            is(FERRULE_OK, [](Args& args) { args.batch = 0, args.metric = nullptr; }) &&
            is(FERRULE_OK, [](Args& args) { args.count = SIZE_MAX; }) &&
            is(FERRULE_OK, [](Args& args) { args.protected_tokens = SIZE_MAX; }) &&
            is(FERRULE_BAD_SHAPE, [](Args& args) { args.metric = nullptr; }) &&
            is(FERRULE_BAD_SHAPE, [](Args& args) { args.heads = 0; }) &&
            is(FERRULE_BAD_LAYOUT, [](Args& args) { args.token_stride = 1; }) &&
            is(FERRULE_TOO_LARGE, [](Args& args) { args.tokens = SIZE_MAX / 2; }) &&
            is(FERRULE_TOO_LARGE, [](Args& args) { args.width = args.token_stride = SIZE_MAX / 8; }) &&
            is(FERRULE_TOO_LARGE, [](Args& args) { args.heads = 4, args.head_stride = SIZE_MAX / 4; }) &&
            is(FERRULE_BAD_VALUE, [&](Args& args) { args.counts = counts; });
  sizes[2] = NAN;
  ok = ok && is(FERRULE_BAD_VALUE, [&](Args& args) { args.sizes = sizes; });
  ok = ok && ferrule_token_match(&good, nullptr, nullptr, nullptr) == FERRULE_BAD_SHAPE;
  ferrule_arena_destroy(&arena);
  return ok;
}

bool merge_refuses() {
  float input[8] = {}, output[8] = {};
  int32_t plan[4] = {0, 1, 1, 2};
  const ferrule_token_merge_args good = {input, nullptr, plan, output, nullptr, 8, 2, 6, 2, 1, 4, 3, 2};
  const auto is = [&](ferrule_status status, auto change) {
    ferrule_token_merge_args args = good;
    change(args);
    return ferrule_token_merge(&args, nullptr, nullptr) == status;
  };
  using Args = ferrule_token_merge_args;
  const ferrule_token_unmerge_args back = {input, plan, output, 8, 2, 8, 2, 1, 4, 2, 2};
  return is(FERRULE_OK, [](Args&) {}) &&
         is(FERRULE_OK, [](Args& args) { args.tokens = 0, args.plan = nullptr; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.plan = nullptr; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.left = 0; }) &&
         is(FERRULE_BAD_VALUE, [](Args& args) { args.left = 2; }) &&
         is(FERRULE_BAD_LAYOUT, [](Args& args) { args.output_stride = 1; }) &&
         is(FERRULE_BAD_LAYOUT, [](Args& args) { args.batch = 2, args.output_batch_stride = 5; }) &&
         is(FERRULE_TOO_LARGE, [](Args& args) { args.batch = SIZE_MAX / 2; }) &&
         ferrule_token_unmerge(&back, nullptr, nullptr) == FERRULE_BAD_VALUE;
}

}  // namespace

bool token_ops_pass() { return ops_run() && match_refuses() && merge_refuses(); }

}  // namespace ferrule::tests
