// Products with 2:4 sparse weights: the loops that float32 and int8 share, over the names of simd/README.md.
// `Kind` is the arithmetic:
//
//   Input, Sums               element of a row, and the sums of a vector of columns
//   kValues                   bytes of what a vector of columns keeps of 32 k
//   none, add_places, value   sums of nothing; the products of 8 k; an output but for
//                             its epilogue
//
// On x86 a kept value costs a permutation beside its product, so that half the products take the time of all
// of them: what is gained are bytes, and with few rows those are the time.
#ifndef FERRULE_KERNELS_GEMM_SPARSE_PANELS_H
#define FERRULE_KERNELS_GEMM_SPARSE_PANELS_H

#include "kernels/gemm/epilogue.h"
#include "kernels/gemm/panel.h"

namespace {

constexpr size_t kSparseUnit = 32;                // k whose places share a doubleword of each column
constexpr size_t kSparseBlockBytes = 768 * 1024;  // rows that stay in the second-level cache beside panels
constexpr size_t kSparseAheadBytes = 16 * 1024;   // how far ahead weights that are read once are fetched

// Not part of the function with the loop, whose registers it would take.
__attribute__((noinline)) void write_tile(const ferrule_gemm_args& args, const Panel& panel, size_t row,
                                          size_t rows, size_t columns, const float* outputs) {
  const Epilogue epilogue(args.epilogue);
  for (size_t r = 0; r < rows; ++r) {
    for_vectors(panel.count, [&](size_t i, size_t count) {
      finish(args, epilogue, row + r, panel.first + i, count, load(outputs + r * columns + i));
    });
  }
}

template <typename Kind, size_t kRows, size_t kVectors>
__attribute__((noinline)) void multiply_sparse_tile(const ferrule_gemm_args& args, const Panel& panel,
                                                    size_t row, size_t distance) {
  using Input = typename Kind::Input;
  constexpr size_t kColumns = kVectors * kLanes, places_bytes = kColumns * 4,
                   values_bytes = kVectors * Kind::kValues / 4;
  const size_t stride = args.input_stride, depth = args.layout.depth;
  const uint8_t* codes = panel.codes;
  typename Kind::Sums tile[kRows][kVectors];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) tile[r][v] = Kind::none();
  }
  const Input* input = static_cast<const Input*>(args.input) + row * stride;
  const size_t whole = depth / kSparseUnit * kSparseUnit;
  Input rest[kRows * kSparseUnit] = {};
  for (size_t r = 0; r < kRows && whole < depth; ++r) {
    memcpy(rest + r * kSparseUnit, input + r * stride + whole, (depth - whole) * sizeof(Input));
  }
  for (size_t k = 0; k < depth; k += kSparseUnit) {
    const Input* x = k < whole ? input + k : rest;
    const size_t x_stride = k < whole ? stride : kSparseUnit;
    Bytes places[kVectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) places[v] = load_bytes(codes + v * kLanes * 4);
    codes += places_bytes;
#pragma GCC unroll 1
    for (size_t p = 0; p < 4; ++p) {
#pragma GCC unroll 16
      for (size_t line = 0; line < values_bytes; line += 64)
        __builtin_prefetch(codes + distance + line, 0, 2);
      Kind::template add_places<kRows, kVectors>(tile, places, codes, x + 8 * p, x_stride);
      codes += values_bytes;
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) places[v] = shift_down_two(places[v]);
    }
  }
  alignas(64) float outputs[kRows * kColumns];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      const F32 y = Kind::value(args, panel, row + r, v * kLanes, tile[r][v]);
      store(outputs + r * kColumns + v * kLanes, y);
    }
  }
  write_tile(args, panel, row, kRows, kColumns, outputs);
}

template <typename Kind, size_t kRows, size_t kVectors>
inline void multiply_sparse_rows(const ferrule_gemm_args& args, const Panel& panel, size_t row, size_t rows,
                                 size_t distance) {
  if (rows == kRows)
    multiply_sparse_tile<Kind, kRows, kVectors>(args, panel, row, distance);
  else if constexpr (kRows > 1)
    multiply_sparse_rows<Kind, kRows - 1, kVectors>(args, panel, row, rows, distance);
}

template <typename Kind, size_t kRows, size_t kVectors>
void multiply_sparse_panels(const ferrule_gemm_args& args, size_t begin, size_t end) {
  const size_t row_bytes = (args.layout.depth + 1) * sizeof(typename Kind::Input);
  const size_t fitting = kSparseBlockBytes / row_bytes / kRows, block = kRows * (fitting ? fitting : 1);
  for (size_t top = 0; top < args.m; top += block) {
    const size_t rows = args.m - top < block ? args.m - top : block, tiles = (rows + kRows - 1) / kRows;
    const size_t distance = tiles == 1 ? kSparseAheadBytes : args.layout.bytes;
    for (size_t p = begin; p < end; ++p) {
      const Panel panel = panel_at(args, p);
      for (size_t t = 0; t < tiles; ++t) {
        const size_t first = t * rows / tiles, count = (t + 1) * rows / tiles - first;
        multiply_sparse_rows<Kind, kRows, kVectors>(args, panel, top + first, count, distance);
      }
    }
  }
}

}  // namespace

#endif
