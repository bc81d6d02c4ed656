#include "simd/avx2.h"

namespace {

constexpr size_t kChunk = 4 * kLanes;

// The larger magnitude, lane by lane.
inline F32 larger_magnitude(F32 a, F32 b) { return max(abs(a), b); }

inline bool any_above(F32 x, float bound) {
  return _mm256_movemask_ps(_mm256_cmp_ps(x, splat(bound), _CMP_GT_OQ)) != 0;
}

inline F32 round_by_conversion(F32 x, __m256i& whole) {
  whole = _mm256_cvtps_epi32(x);
  return _mm256_cvtepi32_ps(whole);
}

using Whole = __m256i;

// Four vectors of integers plus `zero`, saturated to int8, in order.
inline __m256i pack_codes(const Whole (&whole)[4], int zero, int8_t flip) {
  const __m256i zeros = _mm256_set1_epi16(static_cast<int16_t>(zero));
  const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(whole[0], whole[1]), zeros);
  const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(whole[2], whole[3]), zeros);
  // Packing works within lanes: four bytes of each vector for the low lane, then for the high one.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i codes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
  return _mm256_xor_si256(codes, _mm256_set1_epi8(flip));
}

inline void store_packed(uint8_t* p, __m256i codes, size_t count) {
  uint8_t bytes[kChunk];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(count == kChunk ? p : bytes), codes);
  if (count < kChunk) __builtin_memcpy(p, bytes, count);
}

}  // namespace

#include "kernels/quantize_rows/vector.h"

void ferrule_quantize_rows_avx2(const ferrule_quantize_rows_args* args, size_t begin, size_t end, void*) {
  quantize_rows(*args, begin, end);
}
