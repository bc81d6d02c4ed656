// Attention of many queries: a block of them against all keys that they see, a block of keys at a time.
#ifndef FERRULE_KERNELS_ATTENTION_PREFILL_H
#define FERRULE_KERNELS_ATTENTION_PREFILL_H

#include "kernels/attention/codes.h"
#include "kernels/attention/softmax.h"
#include "kernels/attention/tile.h"

namespace {

// panel[channel][key] of up to kKeyBlock keys, zero beyond `count` up to whole vectors.
void pack_keys(const FloatColumns& rows, size_t count, size_t head_size, float* panel) {
  for (size_t k = 0; k < count; k += kLanes) {
    size_t c = 0;
    if (k + kLanes <= count) {
      for (; c + kLanes <= head_size; c += kLanes) {
        transpose(rows.data + k * rows.stride + c, rows.stride, panel + c * kKeyBlock + k);
      }
    }
    for (; c < head_size; ++c) {
      for (size_t i = k; i < k + kLanes; ++i)
        panel[c * kKeyBlock + i] = i < count ? rows.data[i * rows.stride + c] : 0;
    }
  }
}

struct PrefillUnit {
  const ferrule_attention_args& args;
  size_t batch, head, first, rows;
  Workspace w;

  Row row(size_t r) const { return {batch, head, first + r}; }

  // One tile of queries against one block of keys.
  void step_tile(size_t r, size_t key, size_t count, const FloatColumns& values) const {
    const size_t in_tile = smaller(kTileRows, rows - r), end = causal_end(args, first + r + in_tile - 1);
    if (end <= key) return;
    count = smaller(count, end - key);
    multiply_rows<kTileRows>(w.queries + r * w.width, w.width, (count + kLanes - 1) / kLanes,
                             FloatBlock{{w.key_panel, kKeyBlock}}, args.head_size, false, w.logits,
                             kKeyBlock);
    for (size_t i = 0; i < in_tile; ++i)
      adjust_row(args, row(r + i), key, count, w, w.logits + i * kKeyBlock);
    weigh_block<kTileRows>(count, w, r);
    multiply_rows<kTileRows>(w.logits, kKeyBlock, (args.head_size + kLanes - 1) / kLanes, FloatBlock{values},
                             count, true, w.outputs + r * w.width, w.width);
  }

  void run() const {
    const size_t kv_head = head / (args.query_heads / args.kv_heads), padded = round_up(rows, kTileRows);
    for (size_t r = 0; r < rows; ++r) copy_query(args, row(r), w, w.queries + r * w.width);
    for (size_t i = rows * w.width; i < padded * w.width; ++i) w.queries[i] = 0;
    clear_rows(w, padded);
    const HeadRows keys = head_rows(args.keys, batch, kv_head),
                   values = head_rows(args.values, batch, kv_head);
    const KeyRange range = unpadded_keys(args, batch);
    const size_t end = smaller(range.end, causal_end(args, first + rows - 1));
    for (size_t key = range.begin; key < end; key += kKeyBlock) {
      const size_t count = smaller(kKeyBlock, end - key);
      pack_keys(float_rows(args.keys, keys, key, count, args.head_size, w.key_rows, w.width), count,
                args.head_size, w.key_panel);
      // A copy, since rows of a cache may lie far apart, or across cache lines.
      const FloatColumns value_rows =
          copy_rows(args.values, values, key, count, args.head_size, w.value_rows, w.width);
      if (args.sizes) fill_log_sizes(args, batch, key, count, w.log_sizes);
      for (size_t r = 0; r < rows; r += kTileRows) step_tile(r, key, count, value_rows);
    }
    for (size_t r = 0; r < rows; ++r) write_row(args, row(r), w, r);
  }
};

void attend_prefill(const ferrule_attention_args& args, size_t begin, size_t end, void* scratch) {
  const size_t blocks = (args.query_count + args.query_block - 1) / args.query_block;
  const Workspace w = divide_workspace(scratch, args.query_block, args.head_size);
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t head = unit / blocks, first = unit % blocks * args.query_block;
    const size_t rows = smaller(args.query_block, args.query_count - first);
    PrefillUnit{args, head / args.query_heads, head % args.query_heads, first, rows, w}.run();
  }
}

}  // namespace

#endif
