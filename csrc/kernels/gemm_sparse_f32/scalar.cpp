#include "kernels/gemm_sparse/scalar.h"

void ferrule_gemm_sparse_f32_scalar(const ferrule_gemm_args* args, size_t begin, size_t end, void*) {
  const ferrule_panel_layout& layout = args->layout;
  for (size_t p = begin; p < end; ++p) {
    const Panel panel = panel_at(*args, p);
    for (size_t m = 0; m < args->m; ++m) {
      const float* row = static_cast<const float*>(args->input) + m * args->input_stride;
      for (size_t c = 0; c < panel.count; ++c) {
        double sum = 0;
        for_kept(layout, panel.codes, c, sizeof(float), [&](size_t k, const uint8_t* values, size_t i) {
          sum += static_cast<double>(row[k]) * reinterpret_cast<const float*>(values)[i * layout.columns + c];
        });
        finish(*args, m, panel.first + c, static_cast<float>(sum * panel.scales[c] + panel.bias[c]));
      }
    }
  }
}
