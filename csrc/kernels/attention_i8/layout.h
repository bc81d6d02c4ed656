// Where the codes of int8 attention lie: one form for all instruction sets.
#ifndef FERRULE_KERNELS_ATTENTION_I8_LAYOUT_H
#define FERRULE_KERNELS_ATTENTION_I8_LAYOUT_H

#include <math.h>

#include "ferrule/attention_i8.h"
#include "kernels/attention/layout.h"

namespace {

constexpr size_t kChunk = FERRULE_ATTENTION_I8_CHUNK;
constexpr size_t kPanelKeys = 16;
constexpr size_t kTileRows = 6;            // queries that are computed together
constexpr float kLog2E = 1.44269504f;      // logits are in base 2
constexpr float kLogOfFull = 7.99435344f;  // log2(255), the code of the greatest weight
constexpr float kLeastWeight = -30;        // 2^this is far below half a code
constexpr float kSmallestPeak = 1e-30f;    // below it a row counts as zeros; 127 / peak stays in range
constexpr float kLargestScale = 1e15f;     // with kLargestBias: no logit leaves the range of float32
constexpr float kLargestBias = 1e38f;

// 2^r for r of [0, 1], within 8e-5 of it: 1/50 of a step of the weights' codes.
constexpr float kPower[] = {0.9999252f, 0.69583356f, 0.22606716f, 0.07802452f};

// What is added to the weights of each key of a chunk that are below 2 before they are rounded: [-1/2, 1/2),
// spread by the golden ratio. Plain rounding loses all of the many weights that lie below half a step,
// together much of a query's sum; greater weights it rounds best.
constexpr float kDithered = 1;  // log2(2)
struct Dither {
  float of[kChunk];
};
constexpr Dither make_dither() {
  Dither dither = {};
  for (size_t k = 0; k < kChunk; ++k) {
    const double turns = static_cast<double>(k) * 0.6180339887498949;
    dither.of[k] = static_cast<float>(turns - static_cast<double>(static_cast<size_t>(turns)) - 0.5);
  }
  return dither;
}
alignas(64) constexpr Dither kDither = make_dither();

// The codes of one kv head, of the keys from key_begins on, padded with zeros to whole panels and to a width
// of 16 channels; biases pad with -inf.
struct Codes {
  int8_t* keys;          // [key / 16][channel / 4][16][4]
  int8_t* values;        // [key / 4][channel][4]
  int32_t* corrections;  // [key], -128 * the sum of its codes: for products with queries of code + 128
  float* key_scales;     // [key]
  float* biases;         // [key], base 2
  float* value_scales;   // [channel]; NaN where the values are not finite, or the keys
};

inline size_t code_width(size_t head_size) { return round_up(head_size, 16); }

inline size_t code_bytes(size_t key_count, size_t head_size) {
  const size_t keys = round_up(key_count, kPanelKeys), width = code_width(head_size);
  return keys * (2 * width + 3 * sizeof(float)) + width * sizeof(float);
}

inline Codes codes_of(const ferrule_attention_args& args, size_t batch, size_t kv_head) {
  const size_t keys = round_up(args.key_count, kPanelKeys), width = code_width(args.head_size);
  Codes codes = {};
  codes.keys = static_cast<int8_t*>(args.prepared) +
               (batch * args.kv_heads + kv_head) * code_bytes(args.key_count, args.head_size);
  codes.values = codes.keys + keys * width;
  codes.corrections = reinterpret_cast<int32_t*>(codes.values + keys * width);
  codes.key_scales = reinterpret_cast<float*>(codes.corrections + keys);
  codes.biases = codes.key_scales + keys;
  codes.value_scales = codes.biases + keys;
  return codes;
}

inline int8_t* key_code(const Codes& codes, size_t width, size_t key, size_t channel) {
  return codes.keys + key / kPanelKeys * kPanelKeys * width + channel / 4 * 64 + key % kPanelKeys * 4 +
         channel % 4;
}

// A thread's scratch memory.
struct TileMemory {
  float* logits;     // [kTileRows][kChunk]
  float* outputs;    // [kTileRows][width]
  float* means;      // [width], of keys
  float* inverses;   // [width], 1 / scale of values
  uint8_t* weights;  // [kTileRows][kChunk]
  int8_t* queries;   // [kTileRows][width]
};

inline size_t tile_bytes(size_t head_size) {
  const size_t width = code_width(head_size);
  return kTileRows * (kChunk * (sizeof(float) + 1) + width * (sizeof(float) + 1)) + 2 * width * sizeof(float);
}

inline TileMemory divide_tile(void* scratch, size_t head_size) {
  const size_t width = code_width(head_size);
  TileMemory tile = {};
  tile.logits = static_cast<float*>(scratch);
  tile.outputs = tile.logits + kTileRows * kChunk;
  tile.means = tile.outputs + kTileRows * width;
  tile.inverses = tile.means + width;
  tile.weights = reinterpret_cast<uint8_t*>(tile.inverses + width);
  tile.queries = reinterpret_cast<int8_t*>(tile.weights + kTileRows * kChunk);
  return tile;
}

struct Scale {
  float scale, inverse;
};

inline Scale scale_of(float peak) {
  if (!(peak >= kSmallestPeak) || peak == INFINITY) return {0, 0};
  return {peak / 127, 127 / peak};
}

// What is added to the logits of the keys of `range`. False where it is NaN or infinite.
inline bool fill_biases(const ferrule_attention_args& args, size_t batch, KeyRange range, float* biases) {
  const size_t count = range.end - range.begin;
  const float* bias =
      args.bias ? args.bias + batch * args.bias_batch_stride + range.begin * args.bias_key_stride : nullptr;
  const float* sizes = args.sizes ? args.sizes + batch * args.key_count + range.begin : nullptr;
  bool finite = true;
  for (size_t k = 0; k < count; ++k) {
    float x = bias ? bias[k * args.bias_key_stride] * kLog2E : 0;
    // The most negative floats stay finite in base 2: they hide a key from a row that sees others alone.
    if (bias && bias[k * args.bias_key_stride] != -INFINITY) x = fmaxf(x, -kLargestBias);
    if (sizes) x += log2f(sizes[k]);
    if (!(x < INFINITY) || (bias && isnan(bias[k * args.bias_key_stride]))) finite = false;
    biases[k] = fminf(x, kLargestBias);
  }
  for (size_t k = count; k < round_up(count, kPanelKeys); ++k) biases[k] = -INFINITY;
  return finite;
}

// Where keys, sizes or biases are not finite: logits of 0, and NaN by the scales of the values.
inline void poison(const Codes& codes, size_t count, size_t width) {
  for (size_t k = 0; k < count; ++k) codes.key_scales[k] = codes.biases[k] = 0;
  for (size_t c = 0; c < width; ++c) codes.value_scales[c] = NAN;
}

// What turns the codes of a query into logits.
inline float query_factor(const ferrule_attention_args& args, float scale) {
  return fmaxf(-kLargestScale, fminf(kLargestScale, scale * args.scale * kLog2E));
}

inline const float* query_row(const ferrule_attention_args& args, const Row& row) {
  return args.queries + row.batch * args.query_batch_stride + row.head * args.query_head_stride +
         row.query * args.query_stride;
}

inline float* output_row(const ferrule_attention_args& args, const Row& row) {
  return args.output + row.batch * args.output_batch_stride + row.head * args.output_head_stride +
         row.query * args.output_stride;
}

// How many of the keys of `range` a query sees.
inline size_t visible_keys(const ferrule_attention_args& args, KeyRange range, size_t query) {
  const size_t end = smaller(range.end, causal_end(args, query));
  return end > range.begin ? end - range.begin : 0;
}

// The online softmax of one row: what chunks before count by, and the chunk in hand.
struct Softmax {
  float max = -INFINITY, sum = 0, decay = 1, share = 0;

  void join(float chunk_max, int32_t weights) {
    decay = 1;
    share = chunk_max == -INFINITY ? 0 : 1;
    if (chunk_max > max && max != -INFINITY) decay = exp2f(max - chunk_max);
    if (chunk_max < max && share != 0) share = exp2f(chunk_max - max);
    sum = sum * decay + static_cast<float>(weights) * share;
    max = fmaxf(max, chunk_max);
  }
};

}  // namespace

#endif
