#include "simd/neon.h"
#include "kernels/declarations.h"

#include "kernels/gemm/dot_neon.h"

#include "kernels/gemm/arm_rows.h"

void ferrule_gemm_i8_neon(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch) {
  multiply_panels<Codes8>(*args, begin, end, scratch);
}
