// What the attention kernels and their op share: which keys a query sees, where a row of the cache lies, and
// how a thread divides its scratch memory. Internal linkage: included by files of every instruction set.
#ifndef FERRULE_KERNELS_ATTENTION_LAYOUT_H
#define FERRULE_KERNELS_ATTENTION_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/attention.h"

namespace {

constexpr size_t kKeyBlock = 64;  // keys of one step of the online softmax

struct KeyRange {
  size_t begin, end;
};

// What a row of logits belongs to.
struct Row {
  size_t batch, head, query;
};

inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
inline size_t larger(size_t a, size_t b) { return a > b ? a : b; }
inline size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Keys of a batch item that are no padding.
inline KeyRange unpadded_keys(const ferrule_attention_args& args, size_t batch) {
  const size_t begin = args.key_begins ? static_cast<size_t>(args.key_begins[batch]) : 0;
  const size_t end = args.key_ends ? static_cast<size_t>(args.key_ends[batch]) : args.key_count;
  return {begin, end < begin ? begin : end};
}

// The share of them of a decode unit: whole blocks, so that slices do not split a step.
inline KeyRange slice_keys(const ferrule_attention_args& args, size_t batch, size_t slice) {
  const KeyRange all = unpadded_keys(args, batch);
  const size_t share = round_up((all.end - all.begin + args.slices - 1) / args.slices, kKeyBlock);
  const size_t begin = smaller(all.begin + slice * share, all.end);
  return {begin, smaller(begin + share, all.end)};
}

// The first key that the causal mask hides from a query.
inline size_t causal_end(const ferrule_attention_args& args, size_t query) {
  if (!args.causal) return args.key_count;
  const size_t end = query + 1 + args.key_count;
  return end > args.query_count ? smaller(end - args.query_count, args.key_count) : 0;
}

inline size_t code_bits(int kind) {
  return kind == FERRULE_KV_I8 ? 8 : kind == FERRULE_KV_I4 ? 4 : kind == FERRULE_KV_I2 ? 2 : 32;
}

// Bytes of a coded row, which is also the number of channels of a plane.
inline size_t plane_size(int kind, size_t head_size) { return (head_size * code_bits(kind) + 7) / 8; }

inline size_t group_size(const ferrule_kv& kv, size_t head_size) {
  return kv.group && kv.group < head_size ? kv.group : head_size;
}

// The rows of one batch item and kv head.
struct HeadRows {
  const unsigned char* data;
  size_t row_bytes;
  const float* scales;
  const float* offsets;
  size_t scale_stride;
};

inline HeadRows head_rows(const ferrule_kv& kv, size_t batch, size_t head) {
  const size_t item = kv.kind == FERRULE_KV_F32 ? sizeof(float) : 1;
  const size_t scale = batch * kv.scale_batch_stride + head * kv.scale_head_stride;
  HeadRows rows = {};
  rows.data =
      static_cast<const unsigned char*>(kv.data) + (batch * kv.batch_stride + head * kv.head_stride) * item;
  rows.row_bytes = kv.token_stride * item;
  rows.scales = kv.scales ? kv.scales + scale : nullptr;
  rows.offsets = kv.offsets ? kv.offsets + scale : nullptr;
  rows.scale_stride = kv.scale_token_stride;
  return rows;
}

// A thread's scratch memory. `width` is head_size rounded up to whole vectors of any instruction set; rows
// are those of a prefill unit or of a decode unit, rounded up to whole tiles.
struct Workspace {
  float* queries;     // [rows][width], times scale / ln(2), padded with zeros
  float* outputs;     // [rows][width], un-normalised
  float* bases;       // [rows], what the softmax is taken relative to
  float* limits;      // [rows], the logit above which a base is raised
  float* sums;        // [rows][kSumLanes]
  float* key_panel;   // [head_size][kKeyBlock]
  float* key_rows;    // [kKeyBlock][width], decoded
  float* value_rows;  // [kKeyBlock][width], decoded
  float* logits;      // [kMostTileRows][kKeyBlock]
  float* log_sizes;   // [kKeyBlock]
  size_t width;
};

constexpr size_t kSumLanes = 16;
constexpr size_t kMostTileRows = 6;

inline size_t workspace_floats(size_t rows, size_t head_size) {
  const size_t width = round_up(head_size, 16);
  rows = round_up(rows, 16) + kMostTileRows;
  return rows * (2 * width + 2 + kSumLanes) + 3 * kKeyBlock * width + (kMostTileRows + 1) * kKeyBlock;
}

inline Workspace divide_workspace(void* scratch, size_t rows, size_t head_size) {
  Workspace w = {};
  w.width = round_up(head_size, 16);
  rows = round_up(rows, 16) + kMostTileRows;
  w.queries = static_cast<float*>(scratch);
  w.outputs = w.queries + rows * w.width;
  w.key_panel = w.outputs + rows * w.width;
  w.key_rows = w.key_panel + kKeyBlock * w.width;
  w.value_rows = w.key_rows + kKeyBlock * w.width;
  w.logits = w.value_rows + kKeyBlock * w.width;
  w.log_sizes = w.logits + kMostTileRows * kKeyBlock;
  w.sums = w.log_sizes + kKeyBlock;
  w.bases = w.sums + rows * kSumLanes;
  w.limits = w.bases + rows;
  return w;
}

}  // namespace

#endif
