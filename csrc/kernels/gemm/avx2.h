// Integer products over AVX2, for gemm_{i8,i4,lut4,lut2}/avx2.cpp. Panels of 16 columns, steps of 2.
//
// vpmaddubsw would saturate for codes of the whole range, so both sides are widened to int16 and vpmaddwd
// sums the two products of a column exactly. A tile is up to 6 rows by 16 columns: 12 accumulators, two
// vectors of weights, one of inputs and one of products. The inputs of a tile are widened once for all
// panels.
#ifndef FERRULE_KERNELS_GEMM_AVX2_H
#define FERRULE_KERNELS_GEMM_AVX2_H

#include <string.h>

#include "kernels/declarations.h"
#include "kernels/gemm/panel.h"
#include "simd/avx2.h"

#include "kernels/gemm/epilogue.h"

namespace {

constexpr size_t kColumns = 16;
constexpr size_t kBlockBytes = 2 * kColumns;
constexpr size_t kTallest = 6;  // rows of a tile
constexpr size_t kCachedBytes = 192 * 1024;

// The weights of one step as int16: columns 0 to 7, then 8 to 15.
struct Wide {
  __m256i left, right;
};

inline Wide widen(__m256i codes) {
  return {_mm256_cvtepi8_epi16(_mm256_castsi256_si128(codes)),
          _mm256_cvtepi8_epi16(_mm256_extracti128_si256(codes, 1))};
}

inline __m256i load_block(const uint8_t* bytes) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes));
}

// How a block of kBlockBytes bytes becomes `kSteps` steps of weights.
struct WholeCodes {
  static constexpr int kSteps = 1;
  explicit WholeCodes(const Panel&) {}
  Wide unpack(const uint8_t* bytes, int) const {
    const auto* halves = reinterpret_cast<const __m128i*>(bytes);
    return {_mm256_cvtepi8_epi16(_mm_load_si128(halves)), _mm256_cvtepi8_epi16(_mm_load_si128(halves + 1))};
  }
};

// Nibbles in two's complement, as 16 times their value: made good where sums are read.
struct Nibbles {
  static constexpr int kSteps = 2;
  explicit Nibbles(const Panel&) {}
  Wide unpack(const uint8_t* bytes, int step) const {
    const __m256i block = load_block(bytes);
    return widen(_mm256_and_si256(step ? block : _mm256_slli_epi16(block, 4), _mm256_set1_epi8(-16)));
  }
};

// Indices into palettes, one palette for each lane of 128 bits: 8 columns.
template <int Bits>
struct Indices {
  static constexpr int kSteps = 8 / Bits;
  explicit Indices(const Panel& panel) : palettes(load_block(static_cast<const uint8_t*>(panel.tables))) {}
  Wide unpack(const uint8_t* bytes, int step) const {
    const __m256i block = load_block(bytes);
    const __m256i low = step == 0   ? block
                        : step == 1 ? _mm256_srli_epi16(block, Bits)
                        : step == 2 ? _mm256_srli_epi16(block, 4)
                                    : _mm256_srli_epi16(block, 6);
    const __m256i indices = _mm256_and_si256(low, _mm256_set1_epi8((1 << Bits) - 1));
    return widen(_mm256_shuffle_epi8(palettes, indices));
  }
  __m256i palettes;
};

inline F32 widen_bfloat16(const uint16_t* p) {
  const __m128i halves = _mm_load_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

// What one tile reads, and where its sums go.
struct Tile {
  const int16_t* input;  // [steps][rows][2]
  const Panel* panel;
  size_t blocks;
  size_t group_blocks;  // of a group; 0 where there are none
  void* sums;           // [rows][kColumns]: int32, or float32 where there are groups
};

inline __m256i broadcast_pair(const int16_t* codes) {
  int32_t pair;
  memcpy(&pair, codes, sizeof(pair));
  return _mm256_set1_epi32(pair);
}

template <int Rows>
struct TileSums {
  __m256i left[Rows], right[Rows];
};

// sums += codes times inputs for neighbouring blocks.
template <int Rows, typename Codes>
__attribute__((always_inline)) inline void add_run(TileSums<Rows>& sums, const Codes& codes, size_t blocks,
                                                   const uint8_t* bytes, const int16_t* input) {
  for (; blocks > 0; --blocks) {
#pragma GCC unroll 4
    for (int step = 0; step < Codes::kSteps; ++step) {
      const Wide weights = codes.unpack(bytes, step);
#pragma GCC unroll 6
      for (int r = 0; r < Rows; ++r) {
        const __m256i pair = broadcast_pair(input + 2 * (step * Rows + r));
        sums.left[r] = _mm256_add_epi32(sums.left[r], _mm256_madd_epi16(pair, weights.left));
        sums.right[r] = _mm256_add_epi32(sums.right[r], _mm256_madd_epi16(pair, weights.right));
      }
    }
    bytes += kBlockBytes;
    input += 2 * Rows * Codes::kSteps;
  }
}

template <int Rows>
__attribute__((always_inline)) inline void clear(TileSums<Rows>& sums) {
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) sums.left[r] = sums.right[r] = _mm256_setzero_si256();
}

template <int Rows, typename Codes>
void multiply_tile(const Tile& tile) {
  TileSums<Rows> sums;
  clear(sums);
  add_run<Rows>(sums, Codes(*tile.panel), tile.blocks, tile.panel->codes, tile.input);
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
    auto* row = static_cast<__m256i*>(tile.sums) + 2 * r;
    _mm256_store_si256(row, sums.left[r]);
    _mm256_store_si256(row + 1, sums.right[r]);
  }
}

// Sums of groups as float32, group_scale times the group's products; they are kept in memory.
template <int Rows, typename Codes>
void multiply_grouped_tile(const Tile& tile) {
  const Codes codes(*tile.panel);
  const uint8_t* bytes = tile.panel->codes;
  const int16_t* input = tile.input;
  const uint16_t* scales = tile.panel->group_scales;
  auto* totals = static_cast<float*>(tile.sums);
  for (size_t i = 0; i < Rows * kColumns; i += kLanes) store(totals + i, zeros());
  for (size_t left = tile.blocks; left > 0;) {
    const size_t blocks = left < tile.group_blocks ? left : tile.group_blocks;
    TileSums<Rows> sums;
    clear(sums);
    add_run<Rows>(sums, codes, blocks, bytes, input);
    const F32 first = widen_bfloat16(scales), second = widen_bfloat16(scales + kLanes);
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r) {
      float* row = totals + static_cast<size_t>(r) * kColumns;
      store(row, fma(_mm256_cvtepi32_ps(sums.left[r]), first, load(row)));
      store(row + kLanes, fma(_mm256_cvtepi32_ps(sums.right[r]), second, load(row + kLanes)));
    }
    bytes += blocks * kBlockBytes;
    input += blocks * 2 * Rows * Codes::kSteps;
    scales += kColumns;
    left -= blocks;
  }
}

using TileFn = void(const Tile&);

template <typename Codes>
TileFn* choose_tile(size_t rows, bool grouped) {
  static constexpr TileFn* kPlain[] = {multiply_tile<1, Codes>, multiply_tile<2, Codes>,
                                       multiply_tile<3, Codes>, multiply_tile<4, Codes>,
                                       multiply_tile<5, Codes>, multiply_tile<6, Codes>};
  static constexpr TileFn* kGrouped[] = {multiply_grouped_tile<1, Codes>, multiply_grouped_tile<2, Codes>,
                                         multiply_grouped_tile<3, Codes>, multiply_grouped_tile<4, Codes>,
                                         multiply_grouped_tile<5, Codes>, multiply_grouped_tile<6, Codes>};
  return (grouped ? kGrouped : kPlain)[rows - 1];
}

// Scale, bias and epilogue of a tile. The sums are `code_scale` times those of the codes.
void finish_tile(const ferrule_gemm_args& args, const Panel& panel, size_t first, size_t rows,
                 const void* sums, int32_t code_scale) {
  const F32 unit = splat(1 / static_cast<float>(code_scale));
  const Epilogue epilogue(args.epilogue);
  for (size_t column = 0; column < panel.count; column += kLanes) {
    const size_t count = panel.count - column < kLanes ? panel.count - column : kLanes;
    const F32 scales = mul(load(panel.scales + column), unit), bias = load(panel.bias + column);
    const F32 column_sums =
        load(static_cast<const float*>(panel.sums) + column);  // int32 where there are no groups
    for (size_t r = 0; r < rows; ++r) {
      const int32_t zero = args.input_zeros[first + r] * code_scale;
      const F32 products = load(static_cast<const float*>(sums) + r * kColumns + column);
      F32 y;
      if (args.layout.groups) {
        y = fnma(splat(static_cast<float>(zero)), column_sums, products);
      } else {
        const __m256i correction =
            _mm256_mullo_epi32(_mm256_castps_si256(column_sums), _mm256_set1_epi32(zero));
        y = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_castps_si256(products), correction));
      }
      y = fma(y, mul(scales, splat(args.input_scales[first + r])), bias);
      finish(args, epilogue, first + r, panel.first + column, count, y);
    }
  }
}

// Writes rows of uint8 codes as pairs of int16: [depth / 2][rows][2].
void widen_rows(const uint8_t* codes, size_t stride, size_t rows, size_t depth, int16_t* pairs) {
  for (size_t r = 0; r < rows; ++r) {
    const uint8_t* row = codes + r * stride;
    for (size_t k = 0; k < depth; k += 2) {
      const int32_t pair = row[k] | row[k + 1] << 16;
      memcpy(pairs + (k / 2 * rows + r) * 2, &pair, sizeof(pair));
    }
  }
}

// Panels [begin, end), tile by tile of rows.
template <typename Codes>
void multiply_some_panels(const ferrule_gemm_args& args, size_t begin, size_t end, void* scratch,
                          int32_t code_scale) {
  const ferrule_panel_layout& layout = args.layout;
  auto* pairs = static_cast<int16_t*>(scratch) + kTallest * kColumns * 2;
  const size_t tiles = (args.m + kTallest - 1) / kTallest, depth = 2 * Codes::kSteps;
  Tile tile = {pairs, nullptr, layout.padded / depth, layout.group / depth, scratch};
  for (size_t t = 0, first = 0; t < tiles; ++t) {
    const size_t rows = (args.m - first + tiles - t - 1) / (tiles - t);
    const auto* input = static_cast<const uint8_t*>(args.input) + first * args.input_stride;
    widen_rows(input, args.input_stride, rows, layout.padded, pairs);
    TileFn* multiply = choose_tile<Codes>(rows, layout.groups > 0);
    for (size_t p = begin; p < end; ++p) {
      const Panel panel = panel_at(args, p);
      tile.panel = &panel;
      fetch_output(args, panel, first, rows);
      multiply(tile);
      finish_tile(args, panel, first, rows, scratch, code_scale);
    }
    first += rows;
  }
}

// As many panels at a time as stay in the second-level cache while all tiles go over them.
template <typename Codes>
void multiply_panels(const ferrule_gemm_args& args, size_t begin, size_t end, void* scratch,
                     int32_t code_scale = 1) {
  const size_t fitting = kCachedBytes / args.layout.bytes + 1;
  const size_t together = args.m <= kTallest ? end - begin : fitting;
  for (size_t p = begin; p < end; p += together) {
    multiply_some_panels<Codes>(args, p, end - p < together ? end : p + together, scratch, code_scale);
  }
}

}  // namespace

#endif
