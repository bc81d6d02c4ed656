#include "simd/avx512.h"

namespace {

constexpr size_t kChunk = 4 * kLanes;

// The larger magnitude, lane by lane.
inline F32 larger_magnitude(F32 a, F32 b) { return _mm512_range_ps(a, b, 0x0B); }

inline bool any_above(F32 x, float bound) { return _mm512_cmp_ps_mask(x, splat(bound), _CMP_GT_OQ) != 0; }

inline F32 round_by_conversion(F32 x, __m512i& whole) {
  whole = _mm512_cvtps_epi32(x);
  return _mm512_cvtepi32_ps(whole);
}

using Whole = __m512i;

// Four vectors of integers plus `zero`, saturated to int8, in order.
inline __m512i pack_codes(const Whole (&whole)[4], int zero, int8_t flip) {
  const __m512i zeros = _mm512_set1_epi16(static_cast<int16_t>(zero));
  const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(whole[0], whole[1]), zeros);
  const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(whole[2], whole[3]), zeros);
  // Packing works within lanes of 128 bits: four bytes of each vector a lane.
  const __m512i codes = transpose_words(_mm512_packs_epi16(low, high));
  return _mm512_xor_si512(codes, _mm512_set1_epi8(flip));
}

inline void store_packed(uint8_t* p, __m512i codes, size_t count) {
  _mm512_mask_storeu_epi8(p, count == kChunk ? ~__mmask64{0} : _bzhi_u64(~0ull, static_cast<unsigned>(count)),
                          codes);
}

}  // namespace

#include "kernels/quantize_rows/vector.h"

void ferrule_quantize_rows_avx512(const ferrule_quantize_rows_args* args, size_t begin, size_t end, void*) {
  quantize_rows(*args, begin, end);
}
