#include <string.h>

#include "kernels/declarations.h"
#include "simd/avx512.h"

namespace {

using Bytes = __m512i;
inline Bytes load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Bytes shift_down_two(Bytes bytes) { return _mm512_srli_epi32(bytes, 2); }

// Indices into eight codes: of the first four k in the lower bytes, of the next in the higher.
inline Bytes choose(Bytes places) {
  const Bytes two_bits = _mm512_set1_epi8(3), second_half = _mm512_set1_epi32(0x04040000);
  return _mm512_ternarylogic_epi32(places, two_bits, second_half, 0xEA);
}

inline Bytes broadcast_eight(const uint8_t* p) {
  long long eight;
  memcpy(&eight, p, sizeof(eight));
  return _mm512_set1_epi64(eight);
}

inline Bytes pick_codes(Bytes eight, Bytes chosen) { return _mm512_shuffle_epi8(eight, chosen); }

using CodeSums = __m512i;
inline CodeSums no_sums() { return _mm512_setzero_si512(); }
inline CodeSums dot(CodeSums sums, Bytes codes, Bytes weights) { return dot_codes(sums, codes, weights); }
inline F32 code_total(CodeSums sums, const int32_t* columns, int32_t zero) {
  const __m512i shift = _mm512_mullo_epi32(_mm512_loadu_si512(columns), _mm512_set1_epi32(zero));
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, shift));
}

}  // namespace

#include "kernels/gemm_sparse/codes.h"

void ferrule_gemm_sparse_i8_avx512(const ferrule_gemm_args* args, size_t begin, size_t end, void*) {
  multiply_sparse_panels<SparseCodes, 6, 3>(*args, begin, end);
}
