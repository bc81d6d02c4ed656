#include "simd/avx512.h"
#include "kernels/declarations.h"

namespace {

inline int read_word(const uint8_t* p) {
  int word;
  __builtin_memcpy(&word, p, sizeof(word));
  return word;
}

// The first word of 8 nibbles in lanes 0 to 7, the second in 8 to 15.
inline __m512i spread_words(const uint8_t* p) {
  return _mm512_mask_set1_epi32(_mm512_set1_epi32(read_word(p)), 0xFF00, read_word(p + 4));
}

inline F32 widen_i4(const uint8_t* p) {
  const __m512i lift = _mm512_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0);
  return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_sllv_epi32(spread_words(p), lift), 28));
}

// Codes in the low bits of each lane; what lies above them is not looked at.
using Codes = __m512i;

inline Codes read_codes4(const uint8_t* p) {
  const __m512i drop = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
  return _mm512_srlv_epi32(spread_words(p), drop);
}

inline Codes read_codes2(const uint8_t* p) {
  const __m512i drop = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_srlv_epi32(_mm512_set1_epi32(read_word(p)), drop);
}

using Palette = __m512;  // 16 values, or 4 four times over
inline Palette load_palette(const float* p) { return _mm512_loadu_ps(p); }
inline F32 look_up(Palette palette, Codes codes) { return _mm512_permutexvar_ps(codes, palette); }

}  // namespace

#include "kernels/embedding/vector.h"

void ferrule_embedding_avx512(const ferrule_embedding_args* args, size_t begin, size_t end, void*) {
  embedding_rows(*args, begin, end);
}
