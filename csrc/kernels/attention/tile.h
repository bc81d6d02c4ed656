// The product of a few rows with a block of columns, held in registers: S = Q K^T and O += P V.
#ifndef FERRULE_KERNELS_ATTENTION_TILE_H
#define FERRULE_KERNELS_ATTENTION_TILE_H

namespace {

// The second factor of a product, rows of some vectors, offers: kSpan, how many vectors are read together;
// read(row, n, span), the vectors n * kSpan on; offset(v), where vector v lies in a row of float32.
struct FloatColumns {
  static constexpr int kSpan = 1;
  const float* data;
  size_t stride;
  static size_t offset(int vector) { return static_cast<size_t>(vector) * kLanes; }
  void read(size_t row, int n, F32 (&span)[1]) const { span[0] = load(data + row * stride + offset(n)); }
};

// c[r][:] = (adds ? c[r][:] : 0) + sum over k < depth of a[r][k] * columns[k][:], for kVectors vectors.
template <int kRows, int kVectors, typename Columns>
inline void multiply_tile(const float* a, size_t a_stride, const Columns& columns, size_t depth, bool adds,
                          float* c, size_t c_stride) {
  F32 sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = adds ? load(c + static_cast<size_t>(r) * c_stride + columns.offset(v)) : zeros();
    }
  }
#pragma GCC unroll 4
  for (size_t k = 0; k < depth; ++k) {
    F32 column[kVectors];
#pragma GCC unroll 8
    for (int n = 0; n < kVectors / Columns::kSpan; ++n) {
      F32 span[Columns::kSpan];
      columns.read(k, n, span);
#pragma GCC unroll 8
      for (int i = 0; i < Columns::kSpan; ++i) column[n * Columns::kSpan + i] = in_register(span[i]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F32 factor = splat(a[static_cast<size_t>(r) * a_stride + k]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[r][v] = fma(factor, column[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      store(c + static_cast<size_t>(r) * c_stride + columns.offset(v), sums[r][v]);
    }
  }
}

// A block of rows, of which the kernel takes some vectors at a time: at<n>(v) gives the n from vector v on,
// and start(v) where the first of them lies in a row of float32.
struct FloatBlock {
  FloatColumns rows;
  template <int kVectors>
  FloatColumns at(size_t vector) const {
    return {rows.data + vector * kLanes, rows.stride};
  }
  static size_t start(size_t vector) { return vector * kLanes; }
};

// The same for `vectors` vectors of a block.
template <int kRows, typename Block>
inline void multiply_rows(const float* a, size_t a_stride, size_t vectors, const Block& block, size_t depth,
                          bool adds, float* c, size_t c_stride) {
  size_t v = 0;
  for (; v + kTileVectors <= vectors; v += kTileVectors) {
    multiply_tile<kRows, kTileVectors>(a, a_stride, block.template at<kTileVectors>(v), depth, adds,
                                       c + block.start(v), c_stride);
  }
  if constexpr (kTileVectors > 2) {
    if (v + 2 <= vectors) {
      multiply_tile<kRows, 2>(a, a_stride, block.template at<2>(v), depth, adds, c + block.start(v),
                              c_stride);
      v += 2;
    }
  }
  if (v < vectors) {
    multiply_tile<kRows, 1>(a, a_stride, block.template at<1>(v), depth, adds, c + block.start(v), c_stride);
  }
}

}  // namespace

#endif
