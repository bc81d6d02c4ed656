#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/gemm/arm_pairs.h"

void ferrule_gemm_i4_i8mm(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch) {
  multiply_panels<Codes4>(*args, begin, end, scratch);
}
