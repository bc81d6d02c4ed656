// Products of float32 rows with float32 weights [depth][columns], over the names of simd/README.md and over
// multiply_add and keep_order, which the file of the instruction set gives. Internal linkage.
#ifndef FERRULE_KERNELS_GEMM_F32_TILE_H
#define FERRULE_KERNELS_GEMM_F32_TILE_H

namespace {

// One call of a tile: sums[r][:] (+)= input[r][0..depth) . weights.
struct TileArgs {
  const float* input;
  size_t stride;
  const float* weights;
  size_t depth;
  float* sums;  // [rows][columns of the panel]
  bool adds;    // to what `sums` holds
  // Memory that is fetched meanwhile to the second-level cache, `step` bytes on for each k. Left to the
  // hardware, the weights that come next make the tile wait a quarter of its time.
  const char* ahead;
  size_t step;
};

// Where a tile has too few sums to keep the multipliers busy through their latency, neighbouring k go to sums
// of their own, which are added at the end.
template <size_t kRows, size_t kVectors>
constexpr size_t kChains = kRows * kVectors >= 6   ? 1
                           : kRows * kVectors >= 3 ? 2
                                                   : 4;

// kRows rows times the first kVectors vectors of panels with kColumns columns. kStreams: the weights are read
// this once, so that all of their lines must be fetched, not a share of them.
template <size_t kRows, size_t kVectors, size_t kColumns, bool kStreams>
__attribute__((noinline)) void multiply_tile(const TileArgs& args) {
  constexpr size_t chains = kChains<kRows, kVectors>;
  constexpr size_t lines = kStreams ? (kColumns * sizeof(float) + 63) / 64 : 1;
  const float* input = args.input;
  const float* weights = args.weights;
  const char* ahead = args.ahead;
  const size_t stride = args.stride, depth = args.depth, step = args.step;
  F32 tile[chains][kRows][kVectors];
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      tile[0][r][v] = args.adds ? load(args.sums + r * kColumns + v * kLanes) : zeros();
#pragma GCC unroll 4
      for (size_t c = 1; c < chains; ++c) tile[c][r][v] = zeros();
    }
  }
  const auto add_products = [&](size_t k, size_t c) __attribute__((always_inline)) {
    F32 columns[kVectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) columns[v] = load(weights + k * kColumns + v * kLanes);
#pragma GCC unroll 4
    for (size_t line = 0; line < lines; ++line) __builtin_prefetch(ahead + 64 * line, 0, 2);
    ahead += step;
#pragma GCC unroll 16
    for (size_t r = 0; r < kRows; ++r) {
      const float x = input[r * stride + k];
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) tile[c][r][v] = multiply_add(columns[v], x, tile[c][r][v]);
      keep_order();
    }
  };
  size_t k = 0;
  for (; k + chains <= depth; k += chains) {
#pragma GCC unroll 4
    for (size_t c = 0; c < chains; ++c) add_products(k + c, c);
  }
  for (; k < depth; ++k) add_products(k, 0);
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      F32 sum = tile[0][r][v];
#pragma GCC unroll 4
      for (size_t c = 1; c < chains; ++c) sum = add(sum, tile[c][r][v]);
      store(args.sums + r * kColumns + v * kLanes, sum);
    }
  }
}

// The tile of `rows` rows, 1 to kRows, and as many vectors: each size has code of its own.
template <size_t kRows, size_t kVectors, size_t kColumns, bool kStreams>
inline void multiply_rows(size_t rows, size_t vectors, const TileArgs& args) {
  if (vectors < kVectors) {
    if constexpr (kVectors > 1) multiply_rows<kRows, kVectors - 1, kColumns, kStreams>(rows, vectors, args);
  } else if (rows < kRows) {
    if constexpr (kRows > 1) multiply_rows<kRows - 1, kVectors, kColumns, kStreams>(rows, vectors, args);
  } else {
    multiply_tile<kRows, kVectors, kColumns, kStreams>(args);
  }
}

}  // namespace

#endif
