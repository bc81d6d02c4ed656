#include "kernels/gemm_f32/scalar.h"

void ferrule_gemm_f32_lut2_scalar(const ferrule_gemm_args* args, size_t begin, size_t end, void*) {
  multiply_floats(*args, begin, end, [args](const Panel& panel, size_t column, size_t k) {
    return read_palette(args->layout, panel, column, k);
  });
}
