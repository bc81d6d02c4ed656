// Products by SME's outer products: of 32-bit words of the rows and of the panel, float32 values or four
// neighbouring int8 codes, one step of k at a time into the four tiles of ZA. Written for any streaming
// vector length; at 512 bits the four tiles are 16 rows by the 64 columns of a panel. The file that includes
// this has a `Product`:
//
//   Value        of memory: float or int8_t
//   Sum          float or int32_t
//   kStep        values of a word
//   load         a vector of words
//   add<tile>    the outer product of two vectors to that tile
//
// What runs in streaming mode has no NEON: it only lays out rows and makes sums; scaling and activations
// follow outside.
#ifndef FERRULE_KERNELS_GEMM_SME_H
#define FERRULE_KERNELS_GEMM_SME_H

#include <arm_sme.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/gemm/panel.h"
#include "simd/streaming.h"

namespace {

constexpr size_t kColumns = 64;  // of a panel
constexpr size_t kRows = 64;     // that are laid out at a time, no less than a vector of 2048 bits has words
constexpr size_t kDepth = 512;   // words of a row that are laid out at a time

// A block of rows times a block of the depth of some panels.
struct StreamedBlock {
  const uint8_t* input;  // of the first word of the first row
  size_t stride;         // bytes from row to row
  size_t rows, depth;    // depth in words
  uint32_t* laid_out;    // [rows / lanes][depth][lanes]
  const uint8_t* weights;
  size_t panel_bytes, panels;
  uint32_t* sums;  // [panels][kRows][kColumns]
  bool adds;       // to what `sums` holds
};

// The words of [index, count), all bits set, as both the 32-bit and the 8-bit products want them.
inline svbool_t words_from(size_t index, size_t count) __arm_streaming __arm_preserves("za") {
  return svwhilelt_b8_u64(4 * index, 4 * count);
}

// Rows become columns: rows are written to a tile horizontally and read vertically.
inline void lay_out_rows(const StreamedBlock& block) __arm_streaming __arm_inout("za") {
  const size_t lanes = svcntw();
  for (size_t row = 0; row < block.rows; row += lanes) {
    const size_t rows = block.rows - row < lanes ? block.rows - row : lanes;
    const svbool_t present = words_from(0, rows);
    for (size_t k = 0; k < block.depth; k += lanes) {
      const svbool_t words = words_from(k, block.depth);
      const uint8_t* input = block.input + row * block.stride + 4 * k;
      for (size_t i = 0; i < rows; ++i, input += block.stride)
        svld1_hor_za32(0, static_cast<uint32_t>(i), words, input);
      uint32_t* laid_out = block.laid_out + row * block.depth + k * lanes;
      for (size_t i = 0; i < lanes && k + i < block.depth; ++i, laid_out += lanes)
        svst1_ver_za32(0, static_cast<uint32_t>(i), present, laid_out);
    }
  }
}

// One vector of rows times four vectors of columns, from `column` on.
template <typename Product>
inline void multiply_tile(const StreamedBlock& block, size_t row, size_t column, const uint8_t* weights,
                          uint32_t* sums) __arm_streaming __arm_inout("za") {
  const size_t lanes = svcntw(), rows = block.rows - row < lanes ? block.rows - row : lanes;
  const svbool_t present = words_from(0, rows);
  const svbool_t first = words_from(column, kColumns), second = words_from(column + lanes, kColumns);
  const svbool_t third = words_from(column + 2 * lanes, kColumns),
                 fourth = words_from(column + 3 * lanes, kColumns);
  svzero_za();
  if (block.adds) {
    const uint32_t* read = sums;
    for (uint32_t i = 0; i < rows; ++i, read += kColumns) {
      svld1_hor_za32(0, i, first, read);
      svld1_hor_vnum_za32(1, i, second, read, 1);
      svld1_hor_vnum_za32(2, i, third, read, 2);
      svld1_hor_vnum_za32(3, i, fourth, read, 3);
    }
  }
  const size_t depth = block.depth;
  const uint32_t* laid_out = block.laid_out + row * depth;
  for (size_t k = 0; k < depth; ++k, laid_out += lanes, weights += 4 * kColumns) {
    const auto values = Product::load(present, laid_out, 0);
    Product::template add<0>(present, first, values, Product::load(first, weights, 0));
    Product::template add<1>(present, second, values, Product::load(second, weights, 1));
    Product::template add<2>(present, third, values, Product::load(third, weights, 2));
    Product::template add<3>(present, fourth, values, Product::load(fourth, weights, 3));
  }
  for (uint32_t i = 0; i < rows; ++i, sums += kColumns) {
    svst1_hor_za32(0, i, first, sums);
    svst1_hor_vnum_za32(1, i, second, sums, 1);
    svst1_hor_vnum_za32(2, i, third, sums, 2);
    svst1_hor_vnum_za32(3, i, fourth, sums, 3);
  }
}

template <typename Product>
void multiply_streamed(const void* opaque) __arm_streaming __arm_inout("za") {
  const auto& block = *static_cast<const StreamedBlock*>(opaque);
  lay_out_rows(block);
  const size_t lanes = svcntw();
  for (size_t p = 0; p < block.panels; ++p) {
    for (size_t row = 0; row < block.rows; row += lanes) {
      for (size_t column = 0; column < kColumns; column += 4 * lanes) {
        multiply_tile<Product>(block, row, column, block.weights + p * block.panel_bytes + 4 * column,
                               block.sums + (p * kRows + row) * kColumns + column);
      }
    }
  }
}

// Calls finish(panel, sums [rows][kColumns], row, rows) for all rows of panels [begin, end). As many panels
// go together as there is scratch memory for their sums: the rows are laid out once for all of them.
template <typename Product, typename Finish>
void multiply_panels(const ferrule_gemm_args& args, size_t begin, size_t end, void* scratch, Finish finish) {
  const ferrule_panel_layout& layout = args.layout;
  const size_t words = layout.padded / Product::kStep, depth = words < kDepth ? words : kDepth;
  auto* laid_out = static_cast<uint32_t*>(scratch);
  uint32_t* sums = laid_out + kRows * depth;
  const size_t together =
      (ferrule_gemm_scratch(&layout) / sizeof(uint32_t) - kRows * depth) / (kRows * kColumns);
  const size_t stride = args.input_stride * sizeof(typename Product::Value);
  for (size_t row = 0; row < args.m; row += kRows) {
    const size_t rows = args.m - row < kRows ? args.m - row : kRows;
    for (size_t p = begin; p < end; p += together) {
      const size_t panels = end - p < together ? end - p : together;
      const auto* weights = static_cast<const uint8_t*>(args.packed) + p * layout.bytes;
      size_t k = 0;
      do {
        const StreamedBlock block = {static_cast<const uint8_t*>(args.input) + row * stride + 4 * k,
                                     stride,
                                     rows,
                                     words - k < depth ? words - k : depth,
                                     laid_out,
                                     weights + 4 * k * kColumns,
                                     layout.bytes,
                                     panels,
                                     sums,
                                     k != 0};
        run_streaming(multiply_streamed<Product>, &block);
        k += depth;
      } while (k < words);
      for (size_t i = 0; i < panels; ++i) {
        const auto* total = reinterpret_cast<const typename Product::Sum*>(sums + i * kRows * kColumns);
        finish(panel_at(args, p + i), total, row, rows);
      }
    }
  }
}

}  // namespace

#endif
