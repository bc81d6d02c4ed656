#include "simd/avx2.h"
#include "kernels/declarations.h"

namespace {

inline __m256i spread_word(const uint8_t* p) {
  int word;
  __builtin_memcpy(&word, p, sizeof(word));
  return _mm256_set1_epi32(word);
}

inline F32 widen_i4(const uint8_t* p) {
  const __m256i lift = _mm256_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0);
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_sllv_epi32(spread_word(p), lift), 28));
}

// Codes in the low bits of each lane; what lies above them is not looked at.
using Codes = __m256i;

inline Codes read_codes4(const uint8_t* p) {
  return _mm256_srlv_epi32(spread_word(p), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
}

inline Codes read_codes2(const uint8_t* p) {
  short word;
  __builtin_memcpy(&word, p, sizeof(word));
  return _mm256_srlv_epi32(_mm256_set1_epi32(word), _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
}

struct Palette {  // 16 values, or 4 four times over
  F32 low, high;
};
inline Palette load_palette(const float* p) { return {load(p), load(p + 8)}; }
inline F32 look_up(Palette palette, Codes codes) {
  const F32 upper = _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28));  // bit 3 as the sign
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(palette.low, codes),
                          _mm256_permutevar8x32_ps(palette.high, codes), upper);
}

}  // namespace

#include "kernels/embedding/vector.h"

void ferrule_embedding_avx2(const ferrule_embedding_args* args, size_t begin, size_t end, void*) {
  embedding_rows(*args, begin, end);
}
