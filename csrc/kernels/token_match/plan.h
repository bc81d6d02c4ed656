// What all kernels of token_match share: their memory, who takes part, and the plan that follows from the
// best partners. Internal linkage.
#ifndef FERRULE_KERNELS_TOKEN_MATCH_PLAN_H
#define FERRULE_KERNELS_TOKEN_MATCH_PLAN_H

#include <math.h>

#include "ferrule/tokens.h"

namespace {

constexpr size_t kTileRows = 6;  // sources that a tile compares at a time
constexpr size_t kColumnMultiple =
    64;  // destinations are padded to a multiple, the widest panel of any kernel

inline size_t round_up(size_t count, size_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// Elements of each part of the scratch memory of a thread, all multiples of 16.
struct MatchLayout {
  size_t means, sides, columns;
};

inline MatchLayout lay_out(const ferrule_token_match_args& args) {
  MatchLayout layout;
  layout.means = args.heads > 1 ? round_up(args.tokens * args.width, 16) : 0;
  layout.sides = round_up(args.tokens / 2 + 1, 16);
  layout.columns = round_up(args.tokens / 2 + 1, kColumnMultiple);
  return layout;
}

// One batch entry at work. Sources are the tokens at even positions that take part, destinations those at odd
// ones.
struct Matching {
  const float* rows;  // the token vectors, not yet of length one
  size_t row_stride;
  size_t sources, destinations;
  float* means;        // [tokens][width]
  float* packed;       // destinations for the vector kernels, [columns * width]
  float* scores;       // [kTileRows][columns]
  float* inverse;      // [columns], one over the length of each destination
  float* best;         // [sources], the product with the best partner
  int32_t* source_at;  // [sources], position
  int32_t* destination_at;
  int32_t* partner;  // [sources], number of the best destination
  int32_t* goes;     // [sources], whether it goes, 0 or 1
};

inline Matching begin_matching(const ferrule_token_match_args& args, size_t entry, void* memory) {
  const MatchLayout layout = lay_out(args);
  Matching m = {};
  auto* next = static_cast<float*>(memory);
  const auto take = [&next](size_t count) {
    float* taken = next;
    next += count;
    return taken;
  };
  m.means = take(layout.means);
  m.packed = take(layout.columns * args.width);
  m.scores = take(layout.columns * kTileRows);
  m.inverse = take(layout.columns);
  m.best = take(layout.sides);
  m.source_at = reinterpret_cast<int32_t*>(take(layout.sides));
  m.destination_at = reinterpret_cast<int32_t*>(take(layout.sides));
  m.partner = reinterpret_cast<int32_t*>(take(layout.sides));
  m.goes = reinterpret_cast<int32_t*>(take(layout.sides));
  m.rows = args.heads > 1 ? m.means : args.metric + entry * args.batch_stride;
  m.row_stride = args.heads > 1 ? args.width : args.token_stride;
  const float* sizes = args.sizes ? args.sizes + entry * args.tokens : nullptr;
  for (size_t t = args.protected_tokens; t < args.tokens; ++t) {
    if (sizes && sizes[t] == 0) continue;
    if (t % 2)
      m.destination_at[m.destinations++] = static_cast<int32_t>(t);
    else
      m.source_at[m.sources++] = static_cast<int32_t>(t);
  }
  return m;
}

inline const float* source_row(const Matching& m, size_t i) {
  return m.rows + static_cast<size_t>(m.source_at[i]) * m.row_stride;
}

inline const float* destination_row(const Matching& m, size_t i) {
  return m.rows + static_cast<size_t>(m.destination_at[i]) * m.row_stride;
}

// One over the length of a vector, from the 16 sums of its squares.
inline float invert_length(float (&squares)[16], size_t width) {
  for (size_t span = 8; span > 0; span /= 2) {
    for (size_t i = 0; i < span; ++i) squares[i] += squares[i + span];
  }
  return 1 / sqrtf(squares[0] + 1e-5f * static_cast<float>(width));
}

// How many merge in this entry.
inline size_t count_merges(const ferrule_token_match_args& args, size_t entry, const Matching& m) {
  const size_t wish = args.counts ? static_cast<size_t>(args.counts[entry]) : args.count;
  if (m.destinations == 0) return 0;
  return wish < m.sources ? wish : m.sources;
}

// Marks the `count` best sources.
inline void choose_sources(const Matching& m, size_t count) {
  for (size_t i = 0; i < m.sources; ++i) {
    if (!(m.best[i] > -INFINITY)) m.best[i] = -INFINITY;
  }
  for (size_t i = 0; i < m.sources; ++i) {
    const float score = m.best[i];
    int32_t ahead = 0;
    for (size_t j = 0; j < i; ++j) ahead += m.best[j] >= score;
    for (size_t j = i + 1; j < m.sources; ++j) ahead += m.best[j] > score;
    m.goes[i] = static_cast<size_t>(ahead) < count;
  }
}

// Writes the plan of an entry; `count` of its sources are marked, none where it is 0.
inline void place_tokens(const ferrule_token_match_args& args, size_t entry, const Matching& m,
                         size_t count) {
  const float* sizes = args.sizes ? args.sizes + entry * args.tokens : nullptr;
  int32_t* plan = args.plan + entry * args.tokens;
  int32_t left = 0;
  size_t source = 0;
  for (size_t t = 0; t < args.tokens; ++t) {
    const bool real = !sizes || sizes[t] != 0;
    const bool is_source = source < m.sources && static_cast<size_t>(m.source_at[source]) == t;
    const bool goes = is_source && count > 0 && m.goes[source];
    source += is_source;
    if (real && !goes) ++left;
    plan[t] = left > 0 ? left - 1 : 0;
  }
  for (size_t i = 0; count > 0 && i < m.sources; ++i) {
    if (m.goes[i]) plan[m.source_at[i]] = plan[m.destination_at[m.partner[i]]];
  }
  if (args.left) args.left[entry] = left;
}

}  // namespace

#endif
