#include "kernels/gemm_f32/scalar.h"

void ferrule_gemm_f32_i8_scalar(const ferrule_gemm_args* args, size_t begin, size_t end, void*) {
  const ferrule_panel_layout& layout = args->layout;
  multiply_floats(*args, begin, end, [&layout](const Panel& panel, size_t column, size_t k) {
    return read_signed_code(layout, panel.codes, column, k) * read_group_scale(layout, panel, column, k);
  });
}
