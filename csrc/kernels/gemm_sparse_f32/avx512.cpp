#include <string.h>

#include "kernels/declarations.h"
#include "simd/avx512.h"

#include "kernels/gemm_f32/decode_avx512.h"
#include "kernels/gemm_f32/steps.h"

#include "kernels/gemm_sparse/dense.h"

void ferrule_gemm_sparse_f32_avx512(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch) {
  if (args->m >= kManyRows)
    return multiply_spread_panels<8, 3>(*args, begin, end, static_cast<float*>(scratch));
  multiply_sparse_panels<SparseFloats, 5, 3>(*args, begin, end);
}
