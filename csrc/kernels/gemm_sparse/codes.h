// Integer arithmetic of 2:4 sparse products, over Bytes, load_bytes, shift_down_two, choose,
// broadcast_eight, pick_codes, CodeSums, no_sums,
// dot and code_total, which the file of the instruction set gives. What a column keeps of 8 neighbouring k
// are the four bytes of a doubleword.
#ifndef FERRULE_KERNELS_GEMM_SPARSE_CODES_H
#define FERRULE_KERNELS_GEMM_SPARSE_CODES_H

#include "kernels/gemm_sparse/panels.h"

namespace {

struct SparseCodes {
  using Input = uint8_t;
  using Sums = CodeSums;
  static constexpr size_t kValues = 16 * kLanes;
  static Sums none() { return no_sums(); }

  template <size_t kRows, size_t kVectors>
  __attribute__((always_inline)) static void add_places(Sums (&tile)[kRows][kVectors],
                                                        const Bytes (&places)[kVectors],
                                                        const uint8_t* values, const uint8_t* input,
                                                        size_t stride) {
    Bytes chosen[kVectors], kept[kVectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      chosen[v] = choose(places[v]);
      kept[v] = load_bytes(values + v * kLanes * 4);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const Bytes eight = broadcast_eight(input + r * stride);
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v)
        tile[r][v] = dot(tile[r][v], pick_codes(eight, chosen[v]), kept[v]);
    }
  }

  static F32 value(const ferrule_gemm_args& args, const Panel& panel, size_t row, size_t column, Sums sums) {
    const int32_t* columns = static_cast<const int32_t*>(panel.sums) + column;
    const F32 scale = mul(splat(args.input_scales[row]), load(panel.scales + column));
    return add(mul(code_total(sums, columns, args.input_zeros[row]), scale), load(panel.bias + column));
  }
};

}  // namespace

#endif
