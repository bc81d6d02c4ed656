#include "kernels/gemm/avx2.h"

void ferrule_gemm_i4_avx2(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch) {
  multiply_panels<Nibbles>(*args, begin, end, scratch, 16);
}
