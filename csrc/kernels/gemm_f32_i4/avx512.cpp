#include <string.h>

#include "kernels/declarations.h"
#include "simd/avx512.h"

#include "kernels/gemm_f32/decode_avx512.h"

#include "kernels/gemm_f32/coded.h"

void ferrule_gemm_f32_i4_avx512(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch) {
  multiply_coded_panels<Int4Codes, 8, 3>(*args, begin, end, static_cast<float*>(scratch));
}
