// Many rows times 2:4 sparse float32 weights: blocks of weights are spread out once to scratch memory, and
// multiplied as others are. A permutation for each kept value of each row would cost more.
#ifndef FERRULE_KERNELS_GEMM_SPARSE_DENSE_H
#define FERRULE_KERNELS_GEMM_SPARSE_DENSE_H

#include "kernels/gemm_f32/panels.h"
#include "kernels/gemm_sparse/floats.h"

namespace {

constexpr size_t kManyRows = 32;  // from here on spreading out pays

template <size_t kColumns>
constexpr size_t kSparseUnitBytes = kColumns * (4 + 16 * sizeof(float));

// The four weights of which `first` and `second` are kept.
inline void spread_four(F32 first, F32 second, Places first_place, Places second_place, float* weights,
                        size_t columns) {
  const float places[4][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
#pragma GCC unroll 4
  for (size_t t = 0; t < 4; ++t) {
    const F32 here = broadcast_four(places[t]);
    store(weights + t * columns, fma(first, pick(here, first_place), mul(second, pick(here, second_place))));
  }
}

// weights[i][:] = the weights of k + i for `depth` of them and up to a whole unit. k is a multiple of the
// unit.
template <size_t kVectors>
__attribute__((noinline)) void spread_block(const Panel& panel, size_t k, size_t depth, float* weights) {
  constexpr size_t kColumns = kVectors * kLanes;
  for (size_t i = 0; i < depth; i += kSparseUnit) {
    const uint8_t* codes = panel.codes + (k + i) / kSparseUnit * kSparseUnitBytes<kColumns>;
    const auto* kept = reinterpret_cast<const float*>(codes + kColumns * 4);
    for (size_t v = 0; v < kVectors; ++v) {
      Bytes places = load_bytes(codes + v * kLanes * 4);
      for (size_t p = 0; p < 4; ++p) {
        const float* read = kept + 4 * p * kColumns + v * kLanes;
        float* write = weights + (i + 8 * p) * kColumns + v * kLanes;
        spread_four(load(read), load(read + kColumns), places_in<0>(places), places_in<1>(places), write,
                    kColumns);
        spread_four(load(read + 2 * kColumns), load(read + 3 * kColumns), places_in<2>(places),
                    places_in<3>(places), write + 4 * kColumns, kColumns);
        places = shift_down_two(places);
      }
    }
  }
}

template <size_t kRows, size_t kVectors>
void multiply_spread_panels(const ferrule_gemm_args& args, size_t begin, size_t end, float* scratch) {
  constexpr size_t kColumns = kVectors * kLanes;
  float* weights = scratch;
  float* sums = scratch + kBlockDepth * kColumns;
  for_blocks<kRows>(args, [&](size_t row, size_t rows) {
    for (size_t p = begin; p < end; ++p) {
      const Panel panel = panel_at(args, p);
      for_depths(args.layout.depth, [&](size_t k, size_t depth) {
        spread_block<kVectors>(panel, k, depth, weights);
        const size_t begins = k / kSparseUnit * kSparseUnitBytes<kColumns>;
        const size_t bytes = depth / kSparseUnit * kSparseUnitBytes<kColumns>;
        multiply_block<kRows, kVectors>(args, panel, weights, k, depth, row, rows, sums,
                                        follow(args, panel, k + depth, begins + bytes), bytes);
      });
      finish_rows<kColumns>(args, panel, sums, row, rows);
    }
  });
}

}  // namespace

#endif
