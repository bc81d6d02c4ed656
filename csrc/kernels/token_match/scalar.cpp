#include "kernels/declarations.h"
#include "kernels/token_match/plan.h"

namespace {

void average_heads(const ferrule_token_match_args& args, size_t entry, float* means) {
  const float share = 1 / static_cast<float>(args.heads);
  for (size_t t = 0; t < args.tokens; ++t) {
    const float* row = args.metric + entry * args.batch_stride + t * args.token_stride;
    for (size_t i = 0; i < args.width; ++i) {
      float total = row[i];
      for (size_t h = 1; h < args.heads; ++h) total += row[h * args.head_stride + i];
      means[t * args.width + i] = total * share;
    }
  }
}

float invert_length_of(const float* row, size_t width) {
  float squares[16] = {};
  for (size_t i = 0; i < width; ++i) squares[i % 16] = fmaf(row[i], row[i], squares[i % 16]);
  return invert_length(squares, width);
}

void find_partner(const Matching& m, size_t source, size_t width) {
  const float* row = source_row(m, source);
  float best = -INFINITY;
  m.partner[source] = 0;
  for (size_t j = 0; j < m.destinations; ++j) {
    const float* other = destination_row(m, j);
    float product = 0;
    for (size_t i = 0; i < width; ++i) product = fmaf(row[i], other[i], product);
    product *= m.inverse[j];
    if (!(product > best)) continue;
    best = product;
    m.partner[source] = static_cast<int32_t>(j);
  }
  m.best[source] = best * invert_length_of(row, width);
}

}  // namespace

// The definition that every other token_match kernel is held to, index by index.
void ferrule_token_match_scalar(const ferrule_token_match_args* args, size_t begin, size_t end,
                                void* scratch) {
  for (size_t entry = begin; entry < end; ++entry) {
    const Matching m = begin_matching(*args, entry, scratch);
    const size_t count = count_merges(*args, entry, m);
    if (count > 0) {
      if (args->heads > 1) average_heads(*args, entry, m.means);
      for (size_t j = 0; j < m.destinations; ++j)
        m.inverse[j] = invert_length_of(destination_row(m, j), args->width);
      for (size_t i = 0; i < m.sources; ++i) find_partner(m, i, args->width);
      choose_sources(m, count);
    }
    place_tokens(*args, entry, m, count);
  }
}
