#include <string.h>

#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/gemm_sparse/arm_bytes.h"

namespace {

// Each column has two lanes: of the first two of its four values, and of the others.
struct CodeSums {
  int32x4_t low, high;
};
inline CodeSums no_sums() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
inline CodeSums dot(CodeSums sums, Bytes codes, Bytes weights) {
  const int8x16_t a = vreinterpretq_s8_u32(codes), b = vreinterpretq_s8_u32(weights);
  sums.low = vpadalq_s16(sums.low, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
  sums.high = vpadalq_s16(sums.high, vmull_high_s8(a, b));
  return sums;
}
inline F32 code_total(CodeSums sums, const int32_t* columns, int32_t zero) {
  return take_zero_off(vpaddq_s32(sums.low, sums.high), columns, zero);
}

}  // namespace

#include "kernels/gemm_sparse/codes.h"

void ferrule_gemm_sparse_i8_neon(const ferrule_gemm_args* args, size_t begin, size_t end, void*) {
  multiply_sparse_panels<SparseCodes, 3, 2>(*args, begin, end);
}
