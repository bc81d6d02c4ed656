#include "kernels/gemm/avx2.h"

void ferrule_gemm_lut2_avx2(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch) {
  multiply_panels<Indices<2>>(*args, begin, end, scratch);
}
