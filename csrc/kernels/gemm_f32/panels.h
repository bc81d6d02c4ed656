// The loops around multiply_rows, shared by all products with float32 activations. They follow K. Goto and R.
// van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008), with the activations in the
// second-level cache.
#ifndef FERRULE_KERNELS_GEMM_F32_PANELS_H
#define FERRULE_KERNELS_GEMM_F32_PANELS_H

#include "kernels/gemm/panel.h"
#include "kernels/gemm_f32/finish.h"
#include "kernels/gemm_f32/tile.h"

namespace {

constexpr size_t kBlockBytes = 1536 * 1024;  // activations of a block of rows
constexpr size_t kBlockRows = 512;           // at most, so that the sums of a block fit the scratch memory
constexpr size_t kBlockDepth = 512;          // k of the weights that all tiles of a block go through together
// How far ahead of their use weights are fetched where they are read once: some pages, so that memory has the
// time.
constexpr size_t kAheadBytes = 16 * 1024;

inline const float* row_of(const ferrule_gemm_args& args, size_t row) {
  return static_cast<const float*>(args.input) + row * args.input_stride;
}

// Calls body(row, rows) for blocks of rows: whole tiles of kRows, at least one.
template <size_t kRows, typename Body>
inline void for_blocks(const ferrule_gemm_args& args, Body body) {
  const size_t fitting = kBlockBytes / (kRows * sizeof(float) * (args.layout.depth ? args.layout.depth : 1));
  const size_t largest = kBlockRows / kRows;
  const size_t block = kRows * (fitting == 0 ? 1 : fitting < largest ? fitting : largest);
  for (size_t row = 0; row < args.m; row += block) body(row, args.m - row < block ? args.m - row : block);
}

inline size_t count_vectors(const Panel& panel) { return (panel.count + kLanes - 1) / kLanes; }

// At most kRows rows from `row` on times the whole panel.
template <size_t kRows, size_t kVectors>
inline void multiply_few_rows(const ferrule_gemm_args& args, const Panel& panel, size_t row, size_t rows) {
  constexpr size_t kColumns = kVectors * kLanes;
  alignas(64) float sums[kRows * kColumns];
  const auto* weights = reinterpret_cast<const float*>(panel.codes);
  const TileArgs tile = {row_of(args, row),
                         args.input_stride,
                         weights,
                         args.layout.depth,
                         sums,
                         false,
                         reinterpret_cast<const char*>(weights) + kAheadBytes,
                         kColumns * sizeof(float)};
  multiply_rows<kRows, kVectors, kColumns, true>(rows, count_vectors(panel), tile);
  finish_rows<kColumns>(args, panel, sums, row, rows);
}

// A block of rows times weights [depth][columns] of k from `k` on, divided into tiles as even as can be.
// Meanwhile `ahead_bytes` from `ahead` on are fetched. `sums` of the whole block: begun where k is 0, and
// written to the output tile by tile where the block finishes them.
template <size_t kRows, size_t kVectors>
inline void multiply_block(const ferrule_gemm_args& args, const Panel& panel, const float* weights, size_t k,
                           size_t depth, size_t row, size_t rows, float* sums, const void* ahead,
                           size_t ahead_bytes, bool finishes = false) {
  constexpr size_t kColumns = kVectors * kLanes;
  const size_t tiles = (rows + kRows - 1) / kRows;
  const size_t step = ahead_bytes / (tiles * (depth + 1)) + 1;
  for (size_t t = 0; t < tiles; ++t) {
    const size_t first = t * rows / tiles, count = (t + 1) * rows / tiles - first;
    const TileArgs tile = {row_of(args, row + first) + k,
                           args.input_stride,
                           weights,
                           depth,
                           sums + first * kColumns,
                           k != 0,
                           static_cast<const char*>(ahead) + t * depth * step,
                           step};
    multiply_rows<kRows, kVectors, kColumns, false>(count, count_vectors(panel), tile);
    if (finishes) finish_rows<kColumns>(args, panel, sums + first * kColumns, row + first, count);
  }
}

// Calls body(k, depth) for blocks of k of about the same size, but for the last whole units of any codes;
// once where there is no k at all, so that the sums become 0.
template <typename Body>
inline void for_depths(size_t depth, Body body) {
  constexpr size_t largest_unit = 32;
  const size_t blocks = (depth + kBlockDepth - 1) / kBlockDepth;
  const size_t block =
      blocks ? ((depth + blocks - 1) / blocks + largest_unit - 1) / largest_unit * largest_unit : 1;
  size_t k = 0;
  do {
    body(k, depth - k < block ? depth - k : block);
    k += block;
  } while (k < depth);
}

// What is read after the codes of k: those `offset` bytes into the panel, or the next panel.
inline const uint8_t* follow(const ferrule_gemm_args& args, const Panel& panel, size_t k, size_t offset) {
  return panel.codes + (k < args.layout.depth ? offset : args.layout.bytes);
}

}  // namespace

#endif
