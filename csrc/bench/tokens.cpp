#include "bench/bench.h"
#include "ferrule/arena.h"
#include "kernels/declarations.h"

namespace ferrule::bench {

namespace {

// ViT-B: 196 patches and the class token, 16 merged in a layer.
constexpr size_t kTokens = 197, kWidth = 768, kMerged = 16, kLeft = kTokens - kMerged;

struct Metric {
  const char* shape;
  size_t heads, width;
};

}  // namespace

void bench_token_match(Bench& bench, ferrule_token_match_fn* kernel) {
  const Metric metrics[] = {
      {"197 tokens, r 16, k 64", 1, 64}, {"k 768", 1, 768}, {"mean of 12 heads, k 64", 12, 64}};
  for (const Metric& metric : metrics) {
    const std::vector<float> values = draw_floats(metric.heads * kTokens * metric.width);
    std::vector<int32_t> plan(kTokens);
    ferrule_token_match_args args = {};
    args.metric = values.data();
    args.plan = plan.data();
    args.token_stride = metric.width;
    args.head_stride = kTokens * metric.width;
    args.batch = 1;
    args.heads = metric.heads;
    args.tokens = kTokens;
    args.width = metric.width;
    args.protected_tokens = 1;
    args.count = kMerged;
    ferrule_arena arena;
    if (!ferrule_arena_create(&arena, ferrule_token_match_scratch(&args, 1))) return;
    const Work work = {2.0 * 98 * 98 * static_cast<double>(metric.width), 0, 0};
    bench.time(metric.shape, work, [&](size_t) { kernel(&args, 0, 1, arena.memory); });
    ferrule_arena_destroy(&arena);
  }
}

void bench_token_merge(Bench& bench, ferrule_token_merge_fn* kernel) {
  const std::vector<float> input = draw_floats(kTokens * kWidth), sizes(kTokens, 1.0f);
  std::vector<float> output(kLeft * kWidth), merged(kLeft);
  std::vector<int32_t> plan(kTokens);
  // Every second of the first 32 goes into the one that follows it.
  for (size_t t = 0; t < kTokens; ++t) plan[t] = static_cast<int32_t>(t < 2 * kMerged ? t / 2 : t - kMerged);
  const ferrule_token_merge_args args = {
      input.data(), sizes.data(), plan.data(), output.data(), merged.data(), 0, kWidth, 0, kWidth, 1,
      kTokens,      kLeft,        kWidth};
  const Work work = {0, 0, 4.0 * (kTokens + kLeft) * kWidth};
  const size_t units = (kLeft + FERRULE_MERGE_TOKENS - 1) / FERRULE_MERGE_TOKENS;
  bench.time("197 x 768, r 16", work, [&](size_t) { kernel(&args, 0, units, nullptr); });
}

void bench_token_unmerge(Bench& bench, ferrule_token_unmerge_fn* kernel) {
  const std::vector<float> input = draw_floats(kLeft * kWidth);
  std::vector<float> output(kTokens * kWidth);
  std::vector<int32_t> plan(kTokens);
  for (size_t t = 0; t < kTokens; ++t) plan[t] = static_cast<int32_t>(t < 2 * kMerged ? t / 2 : t - kMerged);
  const ferrule_token_unmerge_args args = {input.data(), plan.data(), output.data(), 0,     kWidth, 0,
                                           kWidth,       1,           kTokens,       kLeft, kWidth};
  const Work work = {0, 0, 8.0 * kTokens * kWidth};
  bench.time("197 x 768, r 16", work, [&](size_t) { kernel(&args, 0, kTokens, nullptr); });
}

}  // namespace ferrule::bench
