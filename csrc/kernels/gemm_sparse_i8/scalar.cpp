#include "kernels/gemm_sparse/scalar.h"

void ferrule_gemm_sparse_i8_scalar(const ferrule_gemm_args* args, size_t begin, size_t end, void*) {
  const ferrule_panel_layout& layout = args->layout;
  for (size_t p = begin; p < end; ++p) {
    const Panel panel = panel_at(*args, p);
    for (size_t m = 0; m < args->m; ++m) {
      const auto* row = static_cast<const uint8_t*>(args->input) + m * args->input_stride;
      for (size_t c = 0; c < panel.count; ++c) {
        int64_t sum = 0;
        for_kept(layout, panel.codes, c, 1, [&](size_t k, const uint8_t* values, size_t i) {
          const int code = layout.input == FERRULE_GEMM_U8 ? row[k] : static_cast<int8_t>(row[k]);
          const auto weight = static_cast<int8_t>(values[(i / 4 * layout.columns + c) * 4 + i % 4]);
          sum += (code - args->input_zeros[m]) * weight;
        });
        const float scale = args->input_scales[m] * panel.scales[c];
        finish(*args, m, panel.first + c, static_cast<float>(sum) * scale + panel.bias[c]);
      }
    }
  }
}
