#include <string.h>

#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/gemm_sparse/arm_bytes.h"

namespace {

using CodeSums = int32x4_t;
inline CodeSums no_sums() { return vdupq_n_s32(0); }
inline CodeSums dot(CodeSums sums, Bytes codes, Bytes weights) {
  return vdotq_s32(sums, vreinterpretq_s8_u32(codes), vreinterpretq_s8_u32(weights));
}
inline F32 code_total(CodeSums sums, const int32_t* columns, int32_t zero) {
  return take_zero_off(sums, columns, zero);
}

}  // namespace

#include "kernels/gemm_sparse/codes.h"

void ferrule_gemm_sparse_i8_dotprod(const ferrule_gemm_args* args, size_t begin, size_t end, void*) {
  multiply_sparse_panels<SparseCodes, 6, 2>(*args, begin, end);
}
