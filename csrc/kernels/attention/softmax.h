// The online softmax over a block of keys. Logits are in base 2: the queries are scaled by log2(e)
// beforehand.
#ifndef FERRULE_KERNELS_ATTENTION_SOFTMAX_H
#define FERRULE_KERNELS_ATTENTION_SOFTMAX_H

#include "kernels/attention/layout.h"

namespace {

constexpr float kLog2E = 1.44269504f;
constexpr float kLn2 = 0.693147181f;

// 2^x for x <= kHeadroom, and zero below -125, so that no weight is subnormal. NaN stays NaN. The integral
// part of x is rounded into the low bits of a large float; the rest, within 1/2, goes by a polynomial whose
// relative error is below 1e-7.
inline F32 power_of_two(F32 x) {
  const F32 rounder = splat(12582912.0f + 127.0f);  // 1.5 * 2^23, and the bias of the exponent
  const F32 shifted = add(x, rounder);
  const F32 r = sub(x, sub(shifted, rounder));
  F32 p = splat(0.0013264727f);
  p = fma(p, r, splat(0.009671513f));
  p = fma(p, r, splat(0.055507336f));
  p = fma(p, r, splat(0.24022242f));
  p = fma(p, r, splat(0.693147f));
  p = fma(p, r, splat(1.0f));
  return mul_unless(less(x, splat(-125.0f)), p, low_bits_to_exponent(shifted));
}

// kKeyBlock zeros, then as many ones: from kVisible + kKeyBlock - n, the lanes of the first n keys are below
// 1/2.
constexpr size_t kMaskLanes = 2 * kKeyBlock;
struct MaskTable {
  float lanes[kMaskLanes];
};
constexpr MaskTable make_mask_table() {
  MaskTable table = {};
  for (size_t i = 0; i < kMaskLanes; ++i) table.lanes[i] = i < kKeyBlock ? 0.0f : 1.0f;
  return table;
}
alignas(64) constexpr MaskTable kHidden = make_mask_table();

inline void hide_keys(float* logits, size_t visible, size_t vectors) {
  for (size_t v = visible / kLanes; v < vectors; ++v) {
    const Mask shown = less(load(kHidden.lanes + kKeyBlock - visible + v * kLanes), splat(0.5f));
    store(logits + v * kLanes, select(shown, load(logits + v * kLanes), splat(-INFINITY)));
  }
}

// The softmax is taken relative to a base that need not be the maximum: it is raised only when a logit comes
// to lie kHeadroom above it, which leaves the weights, at most 2^kHeadroom, as exact and saves the rescaling
// of most steps.
constexpr float kHeadroom = 32;

// Raises the base of a row to its greatest logit, where that is above the limit.
__attribute__((noinline)) void raise_base(const float* logits, size_t vectors, const Workspace& w, size_t r) {
  F32 top = splat(-INFINITY);
  for (size_t v = 0; v < vectors; ++v) top = max(load(logits + v * kLanes), top);
  const float base = max_lanes(top);
  if (!(base > w.limits[r])) return;
  const bool is_first = w.limits[r] == -INFINITY;
  const F32 decay = is_first ? zeros() : power_of_two(sub(splat(w.bases[r]), splat(base)));
  w.bases[r] = base;
  w.limits[r] = base + kHeadroom;
  float* sums = w.sums + r * kSumLanes;
  store(sums, mul(load(sums), decay));
  for (size_t c = 0; c < w.width; c += kLanes) {
    store(w.outputs + r * w.width + c, mul(load(w.outputs + r * w.width + c), decay));
  }
}

// Turns the logits of rows [r, r + kRows) into weights 2^(logit - base), and adds these to the sums lane by
// lane.
template <int kRows>
inline void weigh_keys(float* logits, size_t vectors, const Workspace& w, size_t r) {
  F32 excess = zeros();
#pragma GCC unroll 6
  for (size_t i = 0; i < kRows; ++i) {
    F32 top = splat(-INFINITY);
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) top = max(load(logits + i * kKeyBlock + v * kLanes), top);
    excess = max(sub(top, splat(w.limits[r + i])), excess);
  }
  if (max_lanes(excess) > 0) {
    for (size_t i = 0; i < kRows; ++i) raise_base(logits + i * kKeyBlock, vectors, w, r + i);
  }
#pragma GCC unroll 6
  for (size_t i = 0; i < kRows; ++i) {
    float* row = logits + i * kKeyBlock;
    float* sums = w.sums + (r + i) * kSumLanes;
    const F32 base = splat(w.bases[r + i]);
    F32 total = load(sums);
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) {
      const F32 weight = power_of_two(sub(load(row + v * kLanes), base));
      store(row + v * kLanes, weight);
      total = add(total, weight);
    }
    store(sums, total);
  }
}

// The same for the first `count` keys of a block; the number of vectors is known where the block is whole.
template <int kRows>
inline void weigh_block(size_t count, const Workspace& w, size_t r) {
  if (count == kKeyBlock) return weigh_keys<kRows>(w.logits, kKeyBlock / kLanes, w, r);
  weigh_keys<kRows>(w.logits, (count + kLanes - 1) / kLanes, w, r);
}

// log2(sizes) of the keys [first, first + count), zero beyond.
void fill_log_sizes(const ferrule_attention_args& args, size_t batch, size_t first, size_t count,
                    float* log_sizes) {
  for (size_t k = 0; k < kKeyBlock; ++k) {
    log_sizes[k] = k < count ? log2f(args.sizes[batch * args.key_count + first + k]) : 0.0f;
  }
}

void add_bias(const ferrule_attention_args& args, const Row& row, size_t first, size_t count, float* logits) {
  const float* bias = args.bias + row.batch * args.bias_batch_stride + row.head * args.bias_head_stride +
                      row.query * args.bias_query_stride + first * args.bias_key_stride;
  float gathered[kKeyBlock];
  if (args.bias_key_stride != 1) {
    for (size_t k = 0; k < count; ++k) gathered[k] = bias[k * args.bias_key_stride];
    bias = gathered;
  }
  for_vectors(count, [&](size_t k, size_t lanes) {
    const F32 x = load_some(bias + k, lanes);
    // The most negative floats stay finite in base 2: they hide a key from a row that sees others, and from
    // no other.
    const F32 sum = fma(x, splat(kLog2E), load(logits + k));
    store(logits + k, select(less(x, splat(-3.4028235e38f)), sum, max(splat(-3e38f), sum)));
  });
}

void add_distances(const ferrule_attention_args& args, const Row& row, size_t first, float* logits,
                   size_t vectors) {
  const float slope = args.slopes[row.head] * kLog2E;
  const auto distance = static_cast<float>(static_cast<ptrdiff_t>(first + args.query_count) -
                                           static_cast<ptrdiff_t>(row.query + args.key_count));
  for (size_t v = 0; v < vectors; ++v) {
    const F32 keys = add(load(kLaneNumbers), splat(distance + static_cast<float>(v * kLanes)));
    store(logits + v * kLanes, fma(keys, splat(slope), load(logits + v * kLanes)));
  }
}

// All that is added to the logits of a row, and the mask.
inline void adjust_row(const ferrule_attention_args& args, const Row& row, size_t first, size_t count,
                       const Workspace& w, float* logits) {
  const size_t vectors = (count + kLanes - 1) / kLanes;
  if (args.bias) add_bias(args, row, first, count, logits);
  if (args.slopes) add_distances(args, row, first, logits, vectors);
  if (args.sizes) {
    for (size_t v = 0; v < vectors; ++v) {
      store(logits + v * kLanes, add(load(logits + v * kLanes), load(w.log_sizes + v * kLanes)));
    }
  }
  const size_t end = causal_end(args, row.query);
  const size_t visible = end > first ? smaller(end - first, count) : 0;
  if (visible < vectors * kLanes) hide_keys(logits, visible, vectors);
}

// Queries times scale * log2(e), padded with zeros to whole vectors.
void copy_query(const ferrule_attention_args& args, const Row& row, const Workspace& w, float* to) {
  const float* from = args.queries + row.batch * args.query_batch_stride + row.head * args.query_head_stride +
                      row.query * args.query_stride;
  for_vectors(args.head_size, [&](size_t c, size_t count) {
    store(to + c, mul(load_some(from + c, count), splat(args.scale * kLog2E)));
  });
  for (size_t c = round_up(args.head_size, kLanes); c < w.width; ++c) to[c] = 0;
}

void clear_rows(const Workspace& w, size_t rows) {
  for (size_t i = 0; i < rows * w.width; ++i) w.outputs[i] = 0;
  for (size_t i = 0; i < rows * kSumLanes; ++i) w.sums[i] = 0;
  for (size_t i = 0; i < rows; ++i) w.bases[i] = 0;
  for (size_t i = 0; i < rows; ++i) w.limits[i] = -INFINITY;
}

void write_row(const ferrule_attention_args& args, const Row& row, const Workspace& w, size_t r) {
  const float total = sum_lanes(load(w.sums + r * kSumLanes));
  const F32 share = splat(total == 0 ? 0.0f : 1.0f / total);
  float* to = args.output + row.batch * args.output_batch_stride + row.head * args.output_head_stride +
              row.query * args.output_stride;
  for_vectors(args.head_size, [&](size_t c, size_t count) {
    store_some(to + c, mul(load(w.outputs + r * w.width + c), share), count);
  });
  if (!args.log_sums) return;
  args.log_sums[(row.batch * args.query_heads + row.head) * args.query_count + row.query] =
      total == 0 ? -INFINITY : w.bases[r] * kLn2 + logf(total);
}

}  // namespace

#endif
