#include "kernels/gemm/scalar.h"

void ferrule_gemm_lut2_scalar(const ferrule_gemm_args* args, size_t begin, size_t end, void*) {
  multiply_codes(*args, begin, end, [args](const Panel& panel, size_t column, size_t k) -> int {
    const auto* palettes = static_cast<const int8_t (*)[16]>(panel.tables);
    return palettes[column / args->layout.palette][read_code(args->layout, panel.codes, column, k)];
  });
}
