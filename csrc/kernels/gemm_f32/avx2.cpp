#include <string.h>

#include "kernels/declarations.h"
#include "simd/avx2.h"

#include "kernels/gemm_f32/decode_avx2.h"

#include "kernels/gemm_f32/vector.h"

void ferrule_gemm_f32_avx2(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch) {
  multiply_float_panels<6, 2>(*args, begin, end, static_cast<float*>(scratch));
}
