// The tokens of the output that a unit of work of token_merge is. Internal linkage: included by every kernel
// of the op.
#ifndef FERRULE_KERNELS_TOKEN_MERGE_PART_H
#define FERRULE_KERNELS_TOKEN_MERGE_PART_H

#include "ferrule/tokens.h"

namespace {

struct Part {
  size_t entry, first, count;
  float totals[FERRULE_MERGE_TOKENS];  // sizes of the tokens of the output
  const int32_t* plan;                 // of the entry
  const float* sizes;                  // of the entry, or null
};

inline Part begin_part(const ferrule_token_merge_args& args, size_t unit) {
  const size_t parts = (args.left + FERRULE_MERGE_TOKENS - 1) / FERRULE_MERGE_TOKENS;
  Part part = {};
  part.entry = unit / parts;
  part.first = unit % parts * FERRULE_MERGE_TOKENS;
  part.count = args.left - part.first < FERRULE_MERGE_TOKENS ? args.left - part.first : FERRULE_MERGE_TOKENS;
  part.plan = args.plan + part.entry * args.tokens;
  part.sizes = args.sizes ? args.sizes + part.entry * args.tokens : nullptr;
  for (size_t t = 0; t < args.tokens; ++t) {
    const size_t o = static_cast<size_t>(part.plan[t]) - part.first;
    if (o < part.count) part.totals[o] += part.sizes ? part.sizes[t] : 1.0f;
  }
  for (size_t o = 0; args.merged_sizes && o < part.count; ++o) {
    args.merged_sizes[part.entry * args.left + part.first + o] = part.totals[o];
  }
  return part;
}

// Calls put(row, token, share, is_first) for every token that goes into the part, and clear(row) for every
// row of the part into which none goes; `row` counts through the entry.
template <typename Put, typename Clear>
inline void for_tokens(const ferrule_token_merge_args& args, const Part& part, Put put, Clear clear) {
  bool begun[FERRULE_MERGE_TOKENS] = {};
  for (size_t t = 0; t < args.tokens; ++t) {
    const size_t o = static_cast<size_t>(part.plan[t]) - part.first;
    const float size = part.sizes ? part.sizes[t] : 1.0f;
    if (o >= part.count || size == 0) continue;
    put(part.first + o, t, size / part.totals[o], !begun[o]);
    begun[o] = true;
  }
  for (size_t o = 0; o < part.count; ++o) {
    if (!begun[o]) clear(part.first + o);
  }
}

}  // namespace

#endif
