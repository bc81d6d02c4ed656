// From the sums of float32 products to their outputs, over the names of simd/README.md. Internal linkage.
#ifndef FERRULE_KERNELS_GEMM_F32_FINISH_H
#define FERRULE_KERNELS_GEMM_F32_FINISH_H

#include "kernels/gemm/epilogue.h"
#include "kernels/gemm/panel.h"

namespace {

// Writes output[row] for the columns of a panel from their sums, which lack the scale of the column and the
// bias.
inline void finish_row(const ferrule_gemm_args& args, const Epilogue& epilogue, const Panel& panel,
                       const float* sums, size_t row) {
  for_vectors(panel.count, [&](size_t i, size_t count) {
    const F32 y = fma(load(sums + i), load(panel.scales + i), load(panel.bias + i));
    finish(args, epilogue, row, panel.first + i, count, y);
  });
}

// The same for `rows` rows of a panel of kColumns columns. What needs few instructions an output has a loop
// of its own, without the branches of all other epilogues: where the depth is small it counts as much as the
// product.
template <size_t kColumns>
inline void finish_rows(const ferrule_gemm_args& args, const Panel& panel, const float* sums, size_t row,
                        size_t rows) {
  const Epilogue epilogue(args.epilogue);
  if (!epilogue.bounds || args.epilogue.residual || args.epilogue.output_scale != 0) {
    for (size_t r = 0; r < rows; ++r) finish_row(args, epilogue, panel, sums + r * kColumns, row + r);
    return;
  }
  for_vectors(panel.count, [&](size_t i, size_t count) {
    const F32 scales = load(panel.scales + i), bias = load(panel.bias + i);
    float* output = static_cast<float*>(args.output) + row * args.output_stride + panel.first + i;
    const auto write = [&](auto bound) {
      for (size_t r = 0; r < rows; ++r) {
        const F32 y = fma(load(sums + r * kColumns + i), scales, bias);
        store_some(output + r * args.output_stride, bound(y), count);
      }
    };
    if (epilogue.is_relu6)
      write([&](F32 y) { return epilogue.bound(y); });
    else
      write([&](F32 y) { return max(epilogue.lowest, y); });
  });
}

}  // namespace

#endif
