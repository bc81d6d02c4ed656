// Float32 products over the names of simd/README.md; included by the file of each instruction set.
#include "kernels/gemm_f32/panels.h"

namespace {

template <size_t kRows, size_t kVectors>
void multiply_float_panels(const ferrule_gemm_args& args, size_t begin, size_t end, float* sums) {
  constexpr size_t kColumns = kVectors * kLanes;
  for_blocks<kRows>(args, [&](size_t row, size_t rows) {
    for (size_t p = begin; p < end; ++p) {
      const Panel panel = panel_at(args, p);
      if (rows <= kRows) {
        multiply_few_rows<kRows, kVectors>(args, panel, row, rows);
        continue;
      }
      for_depths(args.layout.depth, [&](size_t k, size_t depth) {
        const float* weights = reinterpret_cast<const float*>(panel.codes) + k * kColumns;
        const size_t bytes = depth * kColumns * sizeof(float);
        multiply_block<kRows, kVectors>(
            args, panel, weights, k, depth, row, rows, sums,
            follow(args, panel, k + depth, (k + depth) * kColumns * sizeof(float)), bytes,
            k + depth == args.layout.depth);
      });
    }
  });
}

}  // namespace
