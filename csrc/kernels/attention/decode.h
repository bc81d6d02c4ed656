// Attention of few queries over many keys: each key and value is read once for all rows that share its head.
#ifndef FERRULE_KERNELS_ATTENTION_DECODE_H
#define FERRULE_KERNELS_ATTENTION_DECODE_H

#include "kernels/attention/codes.h"
#include "kernels/attention/softmax.h"
#include "kernels/attention/tile.h"

namespace {

constexpr int kDecodeRows = 4;

template <int kRows>
struct Dots {
  F32 rows[kRows];
};

// Products of one key with kRows queries, lane by lane.
template <int kRows, int kVectors, typename Keys>
__attribute__((always_inline)) inline Dots<kRows> dot_pair(const float* queries, size_t width,
                                                           const Keys& keys, size_t a, size_t b) {
  F32 of_a[kRows], of_b[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) of_a[r] = of_b[r] = zeros();
#pragma GCC unroll 16
  for (int n = 0; n < kVectors / Keys::kSpan; ++n) {
    F32 key_a[Keys::kSpan], key_b[Keys::kSpan];
    keys.read(a, n, key_a);
    keys.read(b, n, key_b);
#pragma GCC unroll 4
    for (int i = 0; i < Keys::kSpan; ++i) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const F32 query = load(queries + static_cast<size_t>(r) * width + keys.offset(n * Keys::kSpan + i));
        of_a[r] = fma(query, key_a[i], of_a[r]);
        of_b[r] = fma(query, key_b[i], of_b[r]);
      }
    }
  }
  Dots<kRows> dots;
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) dots.rows[r] = fold<0>(of_a[r], of_b[r]);
  return dots;
}

// Products of kRows queries with the keys of leaves [leaf, leaf + 2^(kLevel + 1)) of the tree whose root has
// key t in lane t: sums of lanes are taken for all keys at once, a level at a time.
template <int kRows, int kVectors, int kLevel, typename Keys>
__attribute__((always_inline)) inline Dots<kRows> dot_tree(const float* queries, size_t width,
                                                           const Keys& keys, size_t first, size_t last,
                                                           size_t leaf) {
  if constexpr (kLevel == 0) {
    return dot_pair<kRows, kVectors>(queries, width, keys, smaller(first + key_of_leaf(leaf), last),
                                     smaller(first + key_of_leaf(leaf + 1), last));
  } else {
    const Dots<kRows> a = dot_tree<kRows, kVectors, kLevel - 1>(queries, width, keys, first, last, leaf);
    const Dots<kRows> b = dot_tree<kRows, kVectors, kLevel - 1>(queries, width, keys, first, last,
                                                                leaf + (size_t{1} << kLevel));
    Dots<kRows> both;
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) both.rows[r] = fold<kLevel>(a.rows[r], b.rows[r]);
    return both;
  }
}

// Coded rows that are needed next. The hardware does not see them coming, since a block of keys and one of
// values alternate.
struct Ahead {
  const unsigned char* data;
  size_t row_bytes, used_bytes, count;

  void fetch(size_t first) const {
    const size_t end = smaller(first + kLanes, count);
    for (size_t t = first; t < end; ++t) {
      for (size_t b = 0; b < used_bytes; b += 64) __builtin_prefetch(data + t * row_bytes + b);
    }
  }
};

// logits[r][key] (+)= products of kRows queries with `count` keys, over kVectors vectors of channels.
template <int kRows, int kVectors, typename Keys>
void dot_keys(const float* queries, size_t width, const Keys& keys, size_t count, bool adds,
              const Ahead* ahead, float* logits) {
  for (size_t k = 0; k < count; k += kLanes) {
    if (ahead) ahead[0].fetch(k), ahead[1].fetch(k);
    const Dots<kRows> dots =
        dot_tree<kRows, kVectors, kFoldLevels - 1>(queries, width, keys, k, count - 1, 0);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      float* to = logits + static_cast<size_t>(r) * kKeyBlock + k;
      store(to, adds ? add(load(to), dots.rows[r]) : dots.rows[r]);
    }
  }
}

// The same over all `vectors` vectors of a block.
template <int kRows, typename Block>
void dot_rows(const float* queries, size_t width, size_t vectors, const Block& keys, size_t count,
              const Ahead* ahead, float* logits) {
  size_t v = 0;
  for (; v + kDotVectors <= vectors; v += kDotVectors) {
    dot_keys<kRows, kDotVectors>(queries + keys.start(v), width, keys.template at<kDotVectors>(v), count,
                                 v != 0, v == 0 ? ahead : nullptr, logits);
  }
  for (; v < vectors; ++v) {
    dot_keys<kRows, 1>(queries + keys.start(v), width, keys.template at<1>(v), count, v != 0,
                       v == 0 ? ahead : nullptr, logits);
  }
}

// A block of keys and their values, as float32 where they are not decoded a vector at a time.
struct KeyStep {
  size_t first, count;
  FloatColumns keys, values;
  Ahead ahead[2];
};

struct DecodeUnit {
  const ferrule_attention_args& args;
  size_t batch, kv_head;
  Workspace w;
  HeadRows keys, values;

  Row row(size_t r) const {
    const size_t group = args.query_heads / args.kv_heads;
    return {batch, kv_head * group + r / args.query_count, r % args.query_count};
  }

  // Calls use(block) with a block of keys or values from `first` on: as codes where a vector at a time can be
  // decoded.
  template <typename Use>
  void with_block(const ferrule_kv& kv, const HeadRows& rows, size_t first, const FloatColumns& floats,
                  const Use& use) const {
    if (!has_whole_vectors(kv, args.head_size)) return use(FloatBlock{floats});
    if (kv.kind == FERRULE_KV_I8)
      return use(CodedBlock<FERRULE_KV_I8>{rows, first, plane_size(kv.kind, args.head_size)});
    if (kv.kind == FERRULE_KV_I4)
      return use(CodedBlock<FERRULE_KV_I4>{rows, first, plane_size(kv.kind, args.head_size)});
    return use(CodedBlock<FERRULE_KV_I2>{rows, first, plane_size(kv.kind, args.head_size)});
  }

  FloatColumns floats(const ferrule_kv& kv, const HeadRows& rows, size_t first, size_t count,
                      float* scratch) const {
    if (has_whole_vectors(kv, args.head_size)) return {nullptr, 0};
    return float_rows(kv, rows, first, count, args.head_size, scratch, w.width);
  }

  // Only for codes: rows of float32 come at the speed of the memory as it is.
  Ahead ahead_of(const ferrule_kv& kv, const HeadRows& rows, size_t first, size_t end) const {
    if (kv.kind == FERRULE_KV_F32 || first >= end) return {};
    return {rows.data + first * rows.row_bytes, rows.row_bytes, plane_size(kv.kind, args.head_size),
            smaller(end - first, kKeyBlock)};
  }

  template <int kRows>
  void step_rows(size_t r, const KeyStep& step) const {
    const size_t vectors = (args.head_size + kLanes - 1) / kLanes, count = step.count;
    with_block(args.keys, keys, step.first, step.keys, [&](const auto& block) {
      dot_rows<kRows>(w.queries + r * w.width, w.width, vectors, block, count, r == 0 ? step.ahead : nullptr,
                      w.logits);
    });
    for (size_t i = 0; i < kRows; ++i)
      adjust_row(args, row(r + i), step.first, count, w, w.logits + i * kKeyBlock);
    weigh_block<kRows>(count, w, r);
    with_block(args.values, values, step.first, step.values, [&](const auto& block) {
      multiply_rows<kRows>(w.logits, kKeyBlock, vectors, block, count, true, w.outputs + r * w.width,
                           w.width);
    });
  }

  void run(const KeyRange& range, size_t rows) const {
    for (size_t r = 0; r < rows; ++r) copy_query(args, row(r), w, w.queries + r * w.width);
    clear_rows(w, rows);
    for (size_t key = range.begin; key < range.end; key += kKeyBlock) {
      const size_t count = smaller(kKeyBlock, range.end - key);
      const KeyStep step = {key,
                            count,
                            floats(args.keys, keys, key, count, w.key_rows),
                            floats(args.values, values, key, count, w.value_rows),
                            {ahead_of(args.values, values, key, range.end),
                             ahead_of(args.keys, keys, key + kKeyBlock, range.end)}};
      if (args.sizes) fill_log_sizes(args, batch, key, count, w.log_sizes);
      size_t r = 0;
      for (; r + kDecodeRows <= rows; r += kDecodeRows) step_rows<kDecodeRows>(r, step);
      if (rows - r == 3) step_rows<3>(r, step);
      if (rows - r == 2) step_rows<2>(r, step);
      if (rows - r == 1) step_rows<1>(r, step);
    }
  }

  void write_partials(size_t unit, size_t rows) const {
    for (size_t r = 0; r < rows; ++r) {
      float* partial = args.partials + (unit * rows + r) * (args.head_size + 2);
      partial[0] = w.bases[r];
      partial[1] = sum_lanes(load(w.sums + r * kSumLanes));
      for (size_t c = 0; c < args.head_size; ++c) partial[2 + c] = w.outputs[r * w.width + c];
    }
  }
};

void attend_decode(const ferrule_attention_args& args, size_t begin, size_t end, void* scratch) {
  const size_t rows = args.query_heads / args.kv_heads * args.query_count;
  const Workspace w = divide_workspace(scratch, rows, args.head_size);
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t head = unit / args.slices, batch = head / args.kv_heads, kv_head = head % args.kv_heads;
    const DecodeUnit decode = {args,
                               batch,
                               kv_head,
                               w,
                               head_rows(args.keys, batch, kv_head),
                               head_rows(args.values, batch, kv_head)};
    decode.run(slice_keys(args, batch, unit % args.slices), rows);
    if (args.slices != 1) {
      decode.write_partials(unit, rows);
      continue;
    }
    for (size_t r = 0; r < rows; ++r) write_row(args, decode.row(r), w, r);
  }
}

}  // namespace

#endif
