#include <math.h>
#include <string.h>

#include "kernels/declarations.h"
#include "simd/avx512.h"

#include "kernels/attention_i8/layout.h"

namespace {

using I32 = __m512i;

// VNNI multiplies unsigned by signed codes: queries are code + 128, which sums begin by taking off.
constexpr int8_t kQueryFlip = -128;

inline bool any(Mask mask) { return mask != 0; }

inline I32 no_sums() { return _mm512_setzero_si512(); }
inline I32 first_sums(const int32_t* corrections) { return _mm512_loadu_si512(corrections); }
inline I32 load_codes_of(const int8_t* codes) { return _mm512_loadu_si512(codes); }
inline I32 load_values(const int8_t* codes) { return _mm512_loadu_si512(codes); }
inline I32 splat_four(const void* codes) {
  int32_t four;
  memcpy(&four, codes, sizeof(four));
  return _mm512_set1_epi32(four);
}
inline I32 dot_scores(I32 sums, I32 four, I32 keys) { return dot_codes(sums, four, keys); }
inline I32 dot_weights(I32 sums, I32 four, I32 values) { return dot_codes(sums, four, values); }
inline I32 weighted_sums(I32 sums, int32_t) { return sums; }
inline I32 add_signed(I32 sums, I32 codes) { return dot_codes(sums, _mm512_set1_epi8(1), codes); }
inline F32 to_float(I32 x) { return _mm512_cvtepi32_ps(x); }
inline int32_t sum_of(I32 x) { return _mm512_reduce_add_epi32(x); }

// round(x * inverse) in the lowest byte of each lane.
inline I32 encode(F32 x, F32 inverse) { return _mm512_castps_si512(fma(x, inverse, splat(kRounder))); }

inline void store_four(int8_t* to, int8_t code) { memset(to, code, 4); }

// Codes of 16 channels of a key, four to a row of its panel.
inline void store_fours(int8_t* to, I32 codes) {
  const __m128i bytes = _mm512_cvtepi32_epi8(codes);
  const int32_t fours[] = {_mm_extract_epi32(bytes, 0), _mm_extract_epi32(bytes, 1),
                           _mm_extract_epi32(bytes, 2), _mm_extract_epi32(bytes, 3)};
  for (int i = 0; i < 4; ++i) memcpy(to + 64 * i, &fours[i], 4);
}

inline void store_fours_side_by_side(int8_t* to, I32 codes) {
  const __m128i bytes = _mm_xor_si128(_mm512_cvtepi32_epi8(codes), _mm_set1_epi8(kQueryFlip));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
}

// The lowest bytes of four vectors, side by side in each lane.
inline void store_joined(int8_t* to, I32 a, I32 b, I32 c, I32 d) {
  const I32 low = _mm512_mask_blend_epi8(0xAAAAAAAAAAAAAAAAu, a, _mm512_slli_epi32(b, 8));
  const I32 high = _mm512_mask_blend_epi8(0xAAAAAAAAAAAAAAAAu, c, _mm512_slli_epi32(d, 8));
  _mm512_storeu_si512(to, _mm512_mask_blend_epi16(0xAAAAAAAAu, low, _mm512_slli_epi32(high, 16)));
}

inline void store_correction(int32_t* to, I32 sums) {
  _mm512_storeu_si512(to, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 7)));
}

// round(2^x), of small weights + dither, in each lane.
inline I32 weigh(F32 x, F32 dither) {
  const F32 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  F32 p = fma(splat(kPower[3]), r, splat(kPower[2]));
  p = fma(fma(p, r, splat(kPower[1])), r, splat(kPower[0]));
  return _mm512_cvtps_epi32(add(_mm512_scalef_ps(p, x), select(less(x, splat(kDithered)), dither, zeros())));
}

inline I32 store_weights(uint8_t* to, const I32 (&parts)[4], I32 total) {
  const I32 bytes =
      _mm512_packus_epi16(_mm512_packs_epi32(parts[0], parts[1]), _mm512_packs_epi32(parts[2], parts[3]));
  _mm512_storeu_si512(to, bytes);
  return dot_codes(total, bytes, _mm512_set1_epi8(1));
}

}  // namespace

#include "kernels/attention_i8/vector.h"

void ferrule_attention_i8_prepare_avx512(const ferrule_attention_args* args, size_t begin, size_t end,
                                         void* scratch) {
  prepare_heads(*args, begin, end, scratch);
}

void ferrule_attention_i8_avx512(const ferrule_attention_args* args, size_t begin, size_t end,
                                 void* scratch) {
  attend_codes(*args, begin, end, scratch);
}
