// Tiles of rows by 8 columns for neon and dotprod: a panel's step is 8 columns of 4 k, two vectors. The file
// that includes this has defined
//   Sums      of 4 columns of a row, with no_sums() and total(sums)
//   dot<lane> (sums, weights [4 columns][4 k], row's codes) of k 4 * lane to 4 * lane + 3
//   kMostRows of a tile whose sums stay in registers
#ifndef FERRULE_KERNELS_GEMM_ARM_ROWS_H
#define FERRULE_KERNELS_GEMM_ARM_ROWS_H

#include <string.h>

#include "kernels/gemm/arm_finish.h"
#include "kernels/gemm/arm_weights.h"

namespace {

constexpr size_t kStep = 4;
constexpr size_t kStepBytes = kColumns * kStep;
constexpr size_t kFewRows = 4;  // up to which weights are unpacked for each row anew

// Where the rows are few, neighbouring k go to sums of their own, which do not wait for each other.
template <size_t kRows>
constexpr size_t kChains = kRows >= 4 ? 1 : 4 / kRows;

template <size_t kRows>
struct Tile {
  const int8_t* rows[kRows];
  const uint8_t* codes;
  int8x16_t tables[2];
};

template <size_t kRows>
using TileSums = Sums[2][kRows][kChains<kRows>];

template <size_t kRows>
__attribute__((always_inline)) inline void clear(TileSums<kRows>& sums) {
#pragma GCC unroll 2
  for (size_t h = 0; h < 2; ++h) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (size_t c = 0; c < kChains<kRows>; ++c) sums[h][r][c] = no_sums();
    }
  }
}

// One vector of weights into the sums of all rows.
template <size_t kRows, size_t kLane>
__attribute__((always_inline)) inline void add_step(TileSums<kRows>& sums, size_t h, int8x16_t weights,
                                                    const int8x16_t (&codes)[kRows]) {
  constexpr size_t chain = kLane % kChains<kRows>;
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) sums[h][r][chain] = dot<kLane>(sums[h][r][chain], weights, codes[r]);
}

// Four steps, of 16 k.
template <typename Weights, size_t kRows>
__attribute__((always_inline)) inline void add_block(TileSums<kRows>& sums, const Tile<kRows>& tile,
                                                     size_t k) {
  int8x16_t codes[kRows];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) codes[r] = vld1q_s8(tile.rows[r] + k);
  const uint8_t* packed = tile.codes + k / kStep / Weights::kSteps * kStepBytes;
#pragma GCC unroll 2
  for (size_t h = 0; h < 2; ++h) {
    int8x16_t weights[4 / Weights::kSteps][Weights::kSteps];
#pragma GCC unroll 4
    for (size_t b = 0; b < 4 / Weights::kSteps; ++b)
      Weights::unpack(vld1q_u8(packed + b * kStepBytes + h * 16), tile.tables[h], weights[b]);
    add_step<kRows, 0>(sums, h, weights[0][0], codes);
    add_step<kRows, 1>(sums, h, weights[1 / Weights::kSteps][1 % Weights::kSteps], codes);
    add_step<kRows, 2>(sums, h, weights[2 / Weights::kSteps][2 % Weights::kSteps], codes);
    add_step<kRows, 3>(sums, h, weights[3 / Weights::kSteps][3 % Weights::kSteps], codes);
  }
}

// The steps that share one byte.
template <typename Weights, size_t kRows>
__attribute__((always_inline)) inline void add_rest(TileSums<kRows>& sums, const Tile<kRows>& tile,
                                                    size_t k) {
  const uint8_t* packed = tile.codes + k / kStep / Weights::kSteps * kStepBytes;
#pragma GCC unroll 2
  for (size_t h = 0; h < 2; ++h) {
    int8x16_t weights[Weights::kSteps];
    Weights::unpack(vld1q_u8(packed + h * 16), tile.tables[h], weights);
#pragma GCC unroll 4
    for (size_t s = 0; s < Weights::kSteps; ++s) {
      int8x16_t codes[kRows];
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        int32_t four;
        memcpy(&four, tile.rows[r] + k + s * kStep, sizeof(four));
        codes[r] = vreinterpretq_s8_s32(vdupq_n_s32(four));
      }
      add_step<kRows, 0>(sums, h, weights[s], codes);
    }
  }
}

// Sums over k of [begin, end), as 4 columns by row in totals[h][row].
template <typename Weights, size_t kRows>
__attribute__((always_inline)) inline void add_products(const Tile<kRows>& tile, size_t begin, size_t end,
                                                        int32x4_t (&totals)[2][kRows]) {
  TileSums<kRows> sums;
  clear<kRows>(sums);
  size_t k = begin;
  for (; k + 4 * kStep <= end; k += 4 * kStep) add_block<Weights, kRows>(sums, tile, k);
  if (4 / Weights::kSteps > 1) {
    for (; k < end; k += Weights::kSteps * kStep) add_rest<Weights, kRows>(sums, tile, k);
  }
#pragma GCC unroll 2
  for (size_t h = 0; h < 2; ++h) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      totals[h][r] = total(sums[h][r][0]);
#pragma GCC unroll 4
      for (size_t c = 1; c < kChains<kRows>; ++c)
        totals[h][r] = vaddq_s32(totals[h][r], total(sums[h][r][c]));
    }
  }
}

template <typename Weights, size_t kRows>
void multiply_tile(const ferrule_gemm_args& args, const Panel& panel, const uint8_t* codes, int shift,
                   size_t row) {
  Tile<kRows> tile = {};
  tile.codes = codes;
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
    tile.rows[r] = static_cast<const int8_t*>(args.input) + (row + r) * args.input_stride;
  if (Weights::kLooksUp) {
    tile.tables[0] = vld1q_s8(static_cast<const int8_t*>(panel.tables));
    tile.tables[1] = vld1q_s8(static_cast<const int8_t*>(panel.tables) + 16);
  }
  int32x4_t totals[2][kRows];
  RowValues values[kRows];
  const ferrule_panel_layout& layout = args.layout;
  if (layout.groups == 0) {
    add_products<Weights, kRows>(tile, 0, layout.padded, totals);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r)
      values[r] = scale_sums(args, panel, row + r, shift, totals[0][r], totals[1][r]);
    finish_rows(args, panel, row, kRows, values);
    return;
  }
  F32 sums[2][kRows] = {};
  for (size_t g = 0; g < layout.groups; ++g) {
    const size_t begin = g * layout.group;
    const size_t end = layout.padded - begin < layout.group ? layout.padded : begin + layout.group;
    add_products<Weights, kRows>(tile, begin, end, totals);
    F32 scales[2];
    load_group_scales(panel, g, shift, scales);
#pragma GCC unroll 2
    for (size_t h = 0; h < 2; ++h) {
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) sums[h][r] = fma(vcvtq_f32_s32(totals[h][r]), scales[h], sums[h][r]);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) values[r] = scale_groups(args, panel, row + r, sums[0][r], sums[1][r]);
  finish_rows(args, panel, row, kRows, values);
}

// All rows from `row` on, in tiles of kRows and then of half as many.
template <typename Weights, size_t kRows>
void multiply_rows(const ferrule_gemm_args& args, const Panel& panel, const uint8_t* codes, int shift,
                   size_t row) {
  for (; row + kRows <= args.m; row += kRows) multiply_tile<Weights, kRows>(args, panel, codes, shift, row);
  if constexpr (kRows > 1) multiply_rows<Weights, kRows / 2>(args, panel, codes, shift, row);
}

template <typename Weights>
void multiply_panels(const ferrule_gemm_args& args, size_t begin, size_t end, void* scratch) {
  for (size_t p = begin; p < end; ++p) {
    const Panel panel = panel_at(args, p);
    if (Weights::kSteps == 1 || args.m <= kFewRows) {
      constexpr size_t rows = Weights::kSteps == 1 || kMostRows < kFewRows ? kMostRows : kFewRows;
      multiply_rows<Weights, rows>(args, panel, panel.codes, Weights::kShift, 0);
      continue;
    }
    auto* weights = static_cast<int8_t*>(scratch);
    unpack_panel<Weights, 2>(panel.codes, static_cast<const int8_t*>(panel.tables),
                             args.layout.padded / kStep, weights);
    const auto* codes = reinterpret_cast<const uint8_t*>(weights);
    multiply_rows<Codes8, kMostRows>(args, panel, codes, Weights::kShift, 0);
  }
}

}  // namespace

#endif
