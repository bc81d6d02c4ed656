#include "kernels/gemm/scalar.h"

void ferrule_gemm_i8_scalar(const ferrule_gemm_args* args, size_t begin, size_t end, void*) {
  multiply_codes(*args, begin, end, [args](const Panel& panel, size_t column, size_t k) {
    return read_signed_code(args->layout, panel.codes, column, k);
  });
}
