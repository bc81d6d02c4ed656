// Float32 arithmetic of 2:4 sparse products, over load_bytes, places_in, broadcast_four and pick, which the
// file of the instruction set gives.
#ifndef FERRULE_KERNELS_GEMM_SPARSE_FLOATS_H
#define FERRULE_KERNELS_GEMM_SPARSE_FLOATS_H

#include "kernels/gemm_sparse/panels.h"

namespace {

struct SparseFloats {
  using Input = float;
  using Sums = F32;
  static constexpr size_t kValues = 16 * kLanes * sizeof(float);
  static F32 none() { return zeros(); }

  // Byte j of a doubleword of places, at its lowest two bits, is the place of the kept value j: 0 and 1 of
  // the first four k, 2 and 3 of the next.
  template <size_t kRows, size_t kVectors>
  __attribute__((always_inline)) static void add_places(F32 (&tile)[kRows][kVectors],
                                                        const Bytes (&places)[kVectors],
                                                        const uint8_t* values, const float* input,
                                                        size_t stride) {
    for_steps<4>([&](auto j) __attribute__((always_inline)) {
      Places picked[kVectors];
      F32 kept[kVectors];
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) {
        picked[v] = places_in<j.value>(places[v]);
        kept[v] = load(reinterpret_cast<const float*>(values) + (j.value * kVectors + v) * kLanes);
      }
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        const F32 four = broadcast_four(input + r * stride + j.value / 2 * 4);
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) tile[r][v] = fma(kept[v], pick(four, picked[v]), tile[r][v]);
        keep_order();
      }
    });
  }

  static F32 value(const ferrule_gemm_args&, const Panel& panel, size_t, size_t column, F32 sum) {
    return fma(sum, load(panel.scales + column), load(panel.bias + column));
  }
};

}  // namespace

#endif
