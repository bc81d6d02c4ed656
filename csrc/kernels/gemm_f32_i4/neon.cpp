#include <string.h>

#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/gemm_f32/decode_neon.h"

#include "kernels/gemm_f32/coded.h"

void ferrule_gemm_f32_i4_neon(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch) {
  multiply_coded_panels<Int4Codes, 6, 4>(*args, begin, end, static_cast<float*>(scratch));
}
