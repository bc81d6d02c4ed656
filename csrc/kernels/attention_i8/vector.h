// int8 attention over the names of simd/README.md and, from the file of each instruction set: I32 (kLanes
// int32), no_sums, first_sums, load_codes_of, splat_four, dot_scores, dot_weights, add_signed, to_float,
// encode, any, weigh, store_weights, weighted_sums, sum_of, store_four, store_fours, store_joined,
// store_correction and kQueryFlip.
#ifndef FERRULE_KERNELS_ATTENTION_I8_VECTOR_H
#define FERRULE_KERNELS_ATTENTION_I8_VECTOR_H

#include "kernels/attention_i8/prepare.h"

namespace {

constexpr size_t kGroup = 4 * kLanes;  // keys whose weights are packed together, into 4 * kLanes bytes

// A tile of queries against one kv head.
struct Tile {
  const ferrule_attention_args& args;
  Row first;
  size_t rows, width;
  Codes codes;
  TileMemory memory;
  KeyRange range;
  float factors[kTileRows], wrong[kTileRows];
  F32 tops[kTileRows];
  Softmax softmax[kTileRows];
  int32_t totals[kTileRows];

  void load_query(size_t r) {
    int8_t* to = memory.queries + r * width;
    if (r >= rows) {
      factors[r] = wrong[r] = 0;
      for (size_t c = 0; c < width; ++c) to[c] = 0;
      return;
    }
    const float* row = query_row(args, {first.batch, first.head, first.query + r});
    F32 peak = zeros(), poison = zeros();
    for_vectors(args.head_size, [&](size_t c, size_t lanes) {
      const F32 x = load_some(row + c, lanes);
      peak = max(abs(x), peak);
      poison = fma(x, zeros(), poison);
    });
    wrong[r] = any(is_nan(poison)) ? NAN : 0.0f;
    const Scale scale = scale_of(wrong[r] == 0 ? max_lanes(peak) : 0);
    factors[r] = query_factor(args, scale.scale);
    size_t done = 0;
    for_vectors(args.head_size, [&](size_t c, size_t lanes) {
      store_fours_side_by_side(to + c, encode(load_some(row + c, lanes), splat(scale.inverse)));
      done = c + kLanes;
    });
    for (; done < width; done += 4) store_four(to + done, kQueryFlip);
  }

  // Logits of kVectors vectors of keys, from `key` of the chunk that begins at `chunk`.
  template <int kVectors>
  __attribute__((always_inline)) void score(size_t chunk, size_t key) {
    I32 sums[kTileRows][kVectors];
    const int8_t* panels[kVectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      const size_t at = chunk + key + v * kLanes;
      panels[v] = key_code(codes, width, at, 0);
#pragma GCC unroll 6
      for (size_t r = 0; r < kTileRows; ++r) sums[r][v] = first_sums(codes.corrections + at);
    }
    const int8_t* queries = memory.queries;
    for (size_t c = 0; c < width; c += 4) {
      I32 column[kVectors];
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) column[v] = load_codes_of(panels[v] + 16 * c);
#pragma GCC unroll 6
      for (size_t r = 0; r < kTileRows; ++r) {
        const I32 four = splat_four(queries + r * width + c);
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) sums[r][v] = dot_scores(sums[r][v], four, column[v]);
      }
    }
    F32 best[kTileRows], factor[kTileRows];
#pragma GCC unroll 6
    for (size_t r = 0; r < kTileRows; ++r) best[r] = tops[r], factor[r] = splat(factors[r]);
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      const size_t at = chunk + key + v * kLanes;
      const F32 scale = load(codes.key_scales + at), bias = load(codes.biases + at);
#pragma GCC unroll 6
      for (size_t r = 0; r < kTileRows; ++r) {
        const F32 x = fma(to_float(sums[r][v]), mul(scale, factor[r]), bias);
        store(memory.logits + r * kChunk + key + v * kLanes, x);
        best[r] = max(x, best[r]);
      }
    }
#pragma GCC unroll 6
    for (size_t r = 0; r < kTileRows; ++r) tops[r] = best[r];
  }

  void score_keys(size_t chunk, size_t vectors) {
    for (size_t r = 0; r < kTileRows; ++r) tops[r] = splat(-INFINITY);
    size_t v = 0;
    for (; v + 4 <= vectors; v += 4) score<4>(chunk, v * kLanes);
    for (; v < vectors; ++v) score<1>(chunk, v * kLanes);
  }

  // Hides the keys of the chunk from the `visible`th on from a row.
  void hide(size_t r, size_t visible, size_t vectors) {
    float* logits = memory.logits + r * kChunk;
    for (size_t k = visible; k < vectors * kLanes; ++k) logits[k] = -INFINITY;
    tops[r] = splat(-INFINITY);
    for (size_t v = 0; v < vectors; ++v) tops[r] = max(load(logits + v * kLanes), tops[r]);
  }

  // Logits to codes of weights. Their order within a group is that of packing: four keys of vector v from
  // lane 4 * i on lie at 4 * (4 * i + v).
  void weigh_row(size_t r, size_t vectors) {
    const float* logits = memory.logits + r * kChunk;
    uint8_t* weights = memory.weights + r * kChunk;
    const float top = max_lanes(tops[r]);
    const F32 base = splat(top == -INFINITY ? INFINITY : top - kLogOfFull);
    I32 total = no_sums(), parts[4];
    size_t v = 0;
    for (; v + 4 <= vectors; v += 4) {
#pragma GCC unroll 4
      for (size_t i = 0; i < 4; ++i)
        parts[i] = weigh(sub(load(logits + (v + i) * kLanes), base), load(kDither.of + (v + i) * kLanes));
      total = store_weights(weights + v * kLanes, parts, total);
    }
    if (v < vectors) {
#pragma GCC unroll 4
      for (size_t i = 0; i < 4; ++i)
        parts[i] = v + i < vectors ? weigh(sub(load(logits + (v + i) * kLanes), base),
                                           load(kDither.of + (v + i) * kLanes))
                                   : no_sums();
      total = store_weights(weights + v * kLanes, parts, total);
    }
    totals[r] = sum_of(total);
    softmax[r].join(top, totals[r]);
  }

  // The outputs of kVectors vectors of channels over the keys of a chunk.
  template <int kVectors>
  __attribute__((always_inline)) void sum_values(size_t chunk, size_t channel, size_t vectors) {
    I32 sums[kTileRows][kVectors];
#pragma GCC unroll 6
    for (size_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
      for (size_t n = 0; n < kVectors; ++n) sums[r][n] = no_sums();
    }
    const int8_t* row = codes.values + chunk * width + channel * 4;
    for (size_t v = 0; v < vectors; ++v) {
      const uint8_t* weights = memory.weights + v / 4 * kGroup + v % 4 * 4;
#pragma GCC unroll 4
      for (size_t i = 0; i < kLanes / 4; ++i, row += 4 * width) {
        I32 column[kVectors];
#pragma GCC unroll 4
        for (size_t n = 0; n < kVectors; ++n) column[n] = load_values(row + n * kLanes * 4);
#pragma GCC unroll 6
        for (size_t r = 0; r < kTileRows; ++r) {
          const I32 four = splat_four(weights + r * kChunk + 16 * i);
#pragma GCC unroll 4
          for (size_t n = 0; n < kVectors; ++n) sums[r][n] = dot_weights(sums[r][n], four, column[n]);
        }
      }
    }
#pragma GCC unroll 6
    for (size_t r = 0; r < kTileRows; ++r) {
      float* outputs = memory.outputs + r * width + channel;
#pragma GCC unroll 4
      for (size_t n = 0; n < kVectors; ++n) {
        const F32 before = mul(load(outputs + n * kLanes), splat(softmax[r].decay));
        store(outputs + n * kLanes,
              fma(to_float(weighted_sums(sums[r][n], totals[r])), splat(softmax[r].share), before));
      }
    }
  }

  void step(size_t chunk, size_t count) {
    const size_t vectors = (count + kLanes - 1) / kLanes;
    score_keys(chunk, vectors);
    for (size_t r = 0; r < rows && args.causal; ++r) {
      const size_t visible = visible_keys(args, range, first.query + r);
      if (visible < chunk + vectors * kLanes) hide(r, visible > chunk ? visible - chunk : 0, vectors);
    }
    for (size_t r = 0; r < kTileRows; ++r) weigh_row(r, vectors);
    const size_t channels = width / kLanes;
    size_t n = 0;
    for (; n + 4 <= channels; n += 4) sum_values<4>(chunk, n * kLanes, vectors);
    if (n + 2 <= channels) sum_values<2>(chunk, n * kLanes, vectors), n += 2;
    if (n < channels) sum_values<1>(chunk, n * kLanes, vectors);
  }

  void write(size_t r) const {
    const float sum = softmax[r].sum;
    const F32 share = splat(sum == 0 ? 0.0f : (1 + wrong[r]) / sum);
    float* to = output_row(args, {first.batch, first.head, first.query + r});
    for_vectors(args.head_size, [&](size_t c, size_t lanes) {
      const F32 x = mul(load(memory.outputs + r * width + c), mul(load(codes.value_scales + c), share));
      store_some(to + c, sum == 0 ? zeros() : x, lanes);
    });
  }

  void run() {
    for (size_t r = 0; r < kTileRows; ++r) load_query(r);
    for (size_t i = 0; i < kTileRows * width; ++i) memory.outputs[i] = 0;
    const size_t visible = visible_keys(args, range, first.query + rows - 1);
    for (size_t chunk = 0; chunk < visible; chunk += kChunk) step(chunk, smaller(kChunk, visible - chunk));
    for (size_t r = 0; r < rows; ++r) write(r);
  }
};

void attend_codes(const ferrule_attention_args& args, size_t begin, size_t end, void* scratch) {
  const size_t blocks = (args.query_count + args.query_block - 1) / args.query_block;
  const size_t group = args.query_heads / args.kv_heads;
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t batch = unit / blocks / args.query_heads, head = unit / blocks % args.query_heads;
    const size_t from = unit % blocks * args.query_block,
                 to = smaller(from + args.query_block, args.query_count);
    for (size_t i = from; i < to; i += kTileRows) {
      Tile tile{args,
                {batch, head, i},
                smaller(kTileRows, to - i),
                code_width(args.head_size),
                codes_of(args, batch, head / group),
                divide_tile(scratch, args.head_size),
                unpadded_keys(args, batch),
                {},
                {},
                {},
                {},
                {}};
      tile.run();
    }
  }
}

}  // namespace

#endif
