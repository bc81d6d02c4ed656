// Floats as int8 codes over AVX-512, four vectors at a time; after simd/avx512.h and simd/activation.h.
#ifndef FERRULE_SIMD_AVX512_CODES_H
#define FERRULE_SIMD_AVX512_CODES_H

namespace {

// The codes of four vectors, one behind the other, rounded to even and bounded; none of them is NaN.
inline __m512i round_codes(const F32 (&y)[4], Bounds bounds) {
  const auto round = [bounds](F32 x) { return _mm512_cvtps_epi32(min(bounds.highest, x)); };
  const __m512i low = _mm512_packs_epi32(round(y[0]), round(y[1]));
  const __m512i high = _mm512_packs_epi32(round(y[2]), round(y[3]));
  return _mm512_max_epi8(transpose_words(_mm512_packs_epi16(low, high)),
                         _mm512_set1_epi8(static_cast<char>(bounds.lowest)));
}

// The 16 codes of each of the first `rows` vectors, those that `mask` has.
inline void store_code_rows(int8_t* output, size_t stride, __m512i codes, size_t rows, Mask mask) {
  _mm_mask_storeu_epi8(output, mask, _mm512_castsi512_si128(codes));
  if (rows > 1) _mm_mask_storeu_epi8(output + stride, mask, _mm512_extracti32x4_epi32(codes, 1));
  if (rows > 2) _mm_mask_storeu_epi8(output + 2 * stride, mask, _mm512_extracti32x4_epi32(codes, 2));
  if (rows > 3) _mm_mask_storeu_epi8(output + 3 * stride, mask, _mm512_extracti32x4_epi32(codes, 3));
}

}  // namespace

#endif
