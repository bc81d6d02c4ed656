#include "kernels/gemm_f32/scalar.h"

void ferrule_gemm_f32_scalar(const ferrule_gemm_args* args, size_t begin, size_t end, void*) {
  const ferrule_panel_layout& layout = args->layout;
  multiply_floats(*args, begin, end, [&layout](const Panel& panel, size_t column, size_t k) {
    const size_t at = (k / layout.step * layout.columns + column) * layout.step + k % layout.step;
    return reinterpret_cast<const float*>(panel.codes)[at];
  });
}
