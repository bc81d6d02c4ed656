// Tiles of pairs of rows by 8 columns for i8mm: smmla multiplies 2 rows of 8 k by 2 columns of 8 k. A panel's
// step is 8 columns of 8 k, four vectors of two columns each; the rows are laid out in pairs likewise, in
// scratch memory, once for all panels.
#ifndef FERRULE_KERNELS_GEMM_ARM_PAIRS_H
#define FERRULE_KERNELS_GEMM_ARM_PAIRS_H

#include "kernels/gemm/arm_finish.h"
#include "kernels/gemm/arm_weights.h"

namespace {

constexpr size_t kStep = 8;
constexpr size_t kStepBytes = kColumns * kStep;
constexpr size_t kVectors = kColumns / 2;
constexpr size_t kMostPairs = 4;
constexpr size_t kFewPairs = 2;  // up to which weights are unpacked for each tile anew
constexpr size_t kBlockRows =
    24;  // that are laid out at a time; with an unpacked panel they fill the scratch memory

// A single pair has few sums; neighbouring steps then go to sums of their own, which do not wait for each
// other.
template <size_t kPairs>
constexpr size_t kChains = kPairs == 1 ? 2 : 1;

template <size_t kPairs>
using PairSums = int32x4_t[kPairs][kVectors];

struct PairTile {
  const int8_t* pairs;  // [steps][kPairs][2][kStep]
  const uint8_t* codes;
  int8x16_t tables[kVectors];
};

// `count` steps from step `first`, a multiple of the steps that share a byte.
template <typename Weights, size_t kPairs, size_t kCount>
__attribute__((always_inline)) inline void add_steps(int32x4_t (&sums)[kChains<kPairs>][kPairs][kVectors],
                                                     const PairTile& tile, size_t first) {
  int8x16_t rows[kCount][kPairs];
#pragma GCC unroll 4
  for (size_t s = 0; s < kCount; ++s) {
#pragma GCC unroll 4
    for (size_t p = 0; p < kPairs; ++p) rows[s][p] = vld1q_s8(tile.pairs + ((first + s) * kPairs + p) * 16);
  }
  const uint8_t* packed = tile.codes + first / Weights::kSteps * kStepBytes;
#pragma GCC unroll 4
  for (size_t b = 0; b < kCount / Weights::kSteps; ++b) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      int8x16_t weights[Weights::kSteps];
      Weights::unpack(vld1q_u8(packed + b * kStepBytes + v * 16), tile.tables[v], weights);
#pragma GCC unroll 4
      for (size_t i = 0; i < Weights::kSteps; ++i) {
        const size_t s = b * Weights::kSteps + i;
#pragma GCC unroll 4
        for (size_t p = 0; p < kPairs; ++p) {
          int32x4_t& sum = sums[s % kChains<kPairs>][p][v];
          sum = vmmlaq_s32(sum, rows[s][p], weights[i]);
        }
      }
    }
  }
}

// Sums over the steps of [begin, end): of pair p and vector v, rows by columns.
template <typename Weights, size_t kPairs>
__attribute__((always_inline)) inline void add_products(const PairTile& tile, size_t begin, size_t end,
                                                        PairSums<kPairs>& totals) {
  constexpr size_t kAtOnce = Weights::kSteps > 1 ? Weights::kSteps : kPairs > 1 ? 1 : 2;
  int32x4_t sums[kChains<kPairs>][kPairs][kVectors];
#pragma GCC unroll 2
  for (size_t c = 0; c < kChains<kPairs>; ++c) {
#pragma GCC unroll 4
    for (size_t p = 0; p < kPairs; ++p) {
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) sums[c][p][v] = vdupq_n_s32(0);
    }
  }
  size_t step = begin;
  for (; step + kAtOnce <= end; step += kAtOnce) add_steps<Weights, kPairs, kAtOnce>(sums, tile, step);
  if constexpr (Weights::kSteps < kAtOnce) {
    if (step < end) add_steps<Weights, kPairs, 1>(sums, tile, step);
  }
#pragma GCC unroll 4
  for (size_t p = 0; p < kPairs; ++p) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      totals[p][v] = sums[0][p][v];
      if (kChains<kPairs> > 1) totals[p][v] = vaddq_s32(totals[p][v], sums[kChains<kPairs> - 1][p][v]);
    }
  }
}

// A pair's sums are two columns by two rows in each vector: the sums of four columns of one of the rows.
inline F32 upper_row(F32 left, F32 right) { return vcombine_f32(vget_low_f32(left), vget_low_f32(right)); }
inline F32 lower_row(F32 left, F32 right) { return vcombine_f32(vget_high_f32(left), vget_high_f32(right)); }
inline int32x4_t upper_row(int32x4_t left, int32x4_t right) {
  return vcombine_s32(vget_low_s32(left), vget_low_s32(right));
}
inline int32x4_t lower_row(int32x4_t left, int32x4_t right) {
  return vcombine_s32(vget_high_s32(left), vget_high_s32(right));
}

// How many of the rows of kPairs pairs exist.
template <size_t kPairs>
inline size_t count_rows(const ferrule_gemm_args& args, size_t row) {
  return args.m - row < 2 * kPairs ? args.m - row : 2 * kPairs;
}

template <typename Weights, size_t kPairs>
void multiply_columns(const ferrule_gemm_args& args, const Panel& panel, const PairTile& tile, int shift,
                      size_t row) {
  int32x4_t totals[kPairs][kVectors];
  add_products<Weights, kPairs>(tile, 0, args.layout.padded / kStep, totals);
  const size_t rows = count_rows<kPairs>(args, row);
  RowValues values[2 * kPairs];
#pragma GCC unroll 4
  for (size_t p = 0; p < kPairs; ++p) {
    const int32x4_t* t = totals[p];
    const size_t upper = row + 2 * p, lower = 2 * p + 1 < rows ? upper + 1 : upper;
    values[2 * p] = scale_sums(args, panel, upper, shift, upper_row(t[0], t[1]), upper_row(t[2], t[3]));
    values[2 * p + 1] = scale_sums(args, panel, lower, shift, lower_row(t[0], t[1]), lower_row(t[2], t[3]));
  }
  finish_rows(args, panel, row, rows, values);
}

template <typename Weights, size_t kPairs>
void multiply_groups(const ferrule_gemm_args& args, const Panel& panel, const PairTile& tile, int shift,
                     size_t row) {
  const ferrule_panel_layout& layout = args.layout;
  int32x4_t totals[kPairs][kVectors];
  F32 sums[kPairs][kVectors] = {};
  const size_t steps = layout.padded / kStep, group = layout.group / kStep;
  for (size_t g = 0; g < layout.groups; ++g) {
    const size_t begin = g * group, end = steps - begin < group ? steps : begin + group;
    add_products<Weights, kPairs>(tile, begin, end, totals);
    F32 scales[2];
    load_group_scales(panel, g, shift, scales);
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      const int64x2_t four = vreinterpretq_s64_f32(scales[v / 2]);
      const F32 two = vreinterpretq_f32_s64(v % 2 ? vdupq_laneq_s64(four, 1) : vdupq_laneq_s64(four, 0));
#pragma GCC unroll 4
      for (size_t p = 0; p < kPairs; ++p) sums[p][v] = fma(vcvtq_f32_s32(totals[p][v]), two, sums[p][v]);
    }
  }
  const size_t rows = count_rows<kPairs>(args, row);
  RowValues values[2 * kPairs];
#pragma GCC unroll 4
  for (size_t p = 0; p < kPairs; ++p) {
    const F32* t = sums[p];
    const size_t upper = row + 2 * p, lower = 2 * p + 1 < rows ? upper + 1 : upper;
    values[2 * p] = scale_groups(args, panel, upper, upper_row(t[0], t[1]), upper_row(t[2], t[3]));
    values[2 * p + 1] = scale_groups(args, panel, lower, lower_row(t[0], t[1]), lower_row(t[2], t[3]));
  }
  finish_rows(args, panel, row, rows, values);
}

template <typename Weights, size_t kPairs>
void multiply_tile(const ferrule_gemm_args& args, const Panel& panel, const uint8_t* codes, int shift,
                   const int8_t* pairs, size_t row) {
  PairTile tile = {pairs, codes, {}};
  if (Weights::kLooksUp) {
    for (size_t v = 0; v < kVectors; ++v)
      tile.tables[v] = vld1q_s8(static_cast<const int8_t*>(panel.tables) + v * 16);
  }
  if (args.layout.groups)
    multiply_groups<Weights, kPairs>(args, panel, tile, shift, row);
  else
    multiply_columns<Weights, kPairs>(args, panel, tile, shift, row);
}

// Rows [row, row + 2 * kPairs) as PairTile reads them; a row that does not exist is zeros.
void lay_out_pairs(const ferrule_gemm_args& args, size_t row, size_t pairs, int8_t* output) {
  const size_t steps = args.layout.padded / kStep;
  for (size_t p = 0; p < pairs; ++p) {
    const auto* upper = static_cast<const int8_t*>(args.input) + (row + 2 * p) * args.input_stride;
    const bool single = row + 2 * p + 1 == args.m;
    const int8_t* lower = single ? upper : upper + args.input_stride;
    for (size_t s = 0; s < steps; ++s) {
      const int8x8_t second = single ? vdup_n_s8(0) : vld1_s8(lower + s * kStep);
      vst1q_s8(output + (s * pairs + p) * 16, vcombine_s8(vld1_s8(upper + s * kStep), second));
    }
  }
}

// A tile of 8, 4 or 2 rows.
inline size_t choose_pairs(size_t rows) { return rows > 4 ? rows > 6 ? 4 : 2 : rows > 2 ? 2 : 1; }

template <typename Weights>
void multiply_block(const ferrule_gemm_args& args, const Panel& panel, const uint8_t* codes, int shift,
                    const int8_t* pairs, size_t first, size_t last) {
  for (size_t row = first; row < last;) {
    const size_t count = choose_pairs(last - row);
    if (count == 4 && Weights::kSteps == 1)
      multiply_tile<Codes8, 4>(args, panel, codes, shift, pairs, row);
    else if (count == 2)
      multiply_tile<Weights, 2>(args, panel, codes, shift, pairs, row);
    else
      multiply_tile<Weights, 1>(args, panel, codes, shift, pairs, row);
    row += 2 * count;
    pairs += 2 * count * args.layout.padded;
  }
}

template <typename Weights>
void multiply_panels(const ferrule_gemm_args& args, size_t begin, size_t end, void* scratch) {
  const ferrule_panel_layout& layout = args.layout;
  auto* weights = static_cast<int8_t*>(scratch);
  int8_t* pairs = weights + layout.padded * kColumns;
  for (size_t first = 0; first < args.m; first += kBlockRows) {
    const size_t last = args.m - first < kBlockRows ? args.m : first + kBlockRows;
    int8_t* output = pairs;
    for (size_t row = first; row < last;) {
      const size_t count = choose_pairs(last - row);
      lay_out_pairs(args, row, count, output);
      row += 2 * count;
      output += 2 * count * layout.padded;
    }
    for (size_t p = begin; p < end; ++p) {
      const Panel panel = panel_at(args, p);
      if (Weights::kSteps == 1 || last - first <= 2 * kFewPairs) {
        multiply_block<Weights>(args, panel, panel.codes, Weights::kShift, pairs, first, last);
        continue;
      }
      unpack_panel<Weights, kVectors>(panel.codes, static_cast<const int8_t*>(panel.tables),
                                      layout.padded / kStep, weights);
      const auto* codes = reinterpret_cast<const uint8_t*>(weights);
      multiply_block<Codes8>(args, panel, codes, Weights::kShift, pairs, first, last);
    }
  }
}

}  // namespace

#endif
