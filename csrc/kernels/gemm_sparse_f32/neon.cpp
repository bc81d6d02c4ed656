#include <string.h>

#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/gemm_f32/decode_neon.h"
#include "kernels/gemm_f32/steps.h"

#include "kernels/gemm_sparse/dense.h"

void ferrule_gemm_sparse_f32_neon(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch) {
  if (args->m >= kManyRows)
    return multiply_spread_panels<6, 4>(*args, begin, end, static_cast<float*>(scratch));
  multiply_sparse_panels<SparseFloats, 3, 4>(*args, begin, end);
}
