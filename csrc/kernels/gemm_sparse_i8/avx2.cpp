#include <string.h>

#include "kernels/declarations.h"
#include "simd/avx2.h"

namespace {

using Bytes = __m256i;
inline Bytes load_bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline Bytes shift_down_two(Bytes bytes) { return _mm256_srli_epi32(bytes, 2); }

// Indices into eight codes: of the first four k in the lower bytes, of the next in the higher.
inline Bytes choose(Bytes places) {
  return _mm256_or_si256(_mm256_and_si256(places, _mm256_set1_epi8(3)), _mm256_set1_epi32(0x04040000));
}

inline Bytes broadcast_eight(const uint8_t* p) {
  long long eight;
  memcpy(&eight, p, sizeof(eight));
  return _mm256_set1_epi64x(eight);
}

inline Bytes pick_codes(Bytes eight, Bytes chosen) { return _mm256_shuffle_epi8(eight, chosen); }

// Each column has two lanes: of the first two of its four values, and of the others. Products of bytes are
// summed as 32 bits, since two of them can overflow 16.
struct CodeSums {
  __m256i low, high;
};
inline CodeSums no_sums() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline CodeSums dot(CodeSums sums, Bytes codes, Bytes weights) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i low = _mm256_srai_epi16(_mm256_unpacklo_epi8(zero, weights), 8);
  const __m256i high = _mm256_srai_epi16(_mm256_unpackhi_epi8(zero, weights), 8);
  sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(_mm256_unpacklo_epi8(codes, zero), low));
  sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(_mm256_unpackhi_epi8(codes, zero), high));
  return sums;
}
inline F32 code_total(CodeSums sums, const int32_t* columns, int32_t zero) {
  const __m256i column_sums = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(columns));
  const __m256i shift = _mm256_mullo_epi32(column_sums, _mm256_set1_epi32(zero));
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_hadd_epi32(sums.low, sums.high), shift));
}

}  // namespace

#include "kernels/gemm_sparse/codes.h"

void ferrule_gemm_sparse_i8_avx2(const ferrule_gemm_args* args, size_t begin, size_t end, void*) {
  multiply_sparse_panels<SparseCodes, 3, 1>(*args, begin, end);
}
