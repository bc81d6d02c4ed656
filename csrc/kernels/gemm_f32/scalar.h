// The definition of the products with float32 activations, over panels of any layout; included by their
// scalar.cpp.
#include "kernels/gemm/scalar.h"

namespace {

// `weight(panel, column, k)` is the weight but for the scale of its column. Sums are in double.
template <typename Weight>
void multiply_floats(const ferrule_gemm_args& args, size_t begin, size_t end, Weight weight) {
  for (size_t p = begin; p < end; ++p) {
    const Panel panel = panel_at(args, p);
    for (size_t m = 0; m < args.m; ++m) {
      const float* row = static_cast<const float*>(args.input) + m * args.input_stride;
      for (size_t c = 0; c < panel.count; ++c) {
        double total = 0;
        for (size_t k = 0; k < args.layout.depth; ++k)
          total += static_cast<double>(row[k]) * weight(panel, c, k);
        finish(args, m, panel.first + c, static_cast<float>(total * panel.scales[c] + panel.bias[c]));
      }
    }
  }
}

[[maybe_unused]] float read_palette(const ferrule_panel_layout& layout, const Panel& panel, size_t column,
                                    size_t k) {
  const float* palette = static_cast<const float*>(panel.tables) + (column / layout.palette << layout.bits);
  return palette[read_code(layout, panel.codes, column, k)];
}

}  // namespace
