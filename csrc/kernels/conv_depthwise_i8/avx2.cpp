#include <math.h>
#include <string.h>

#include "kernels/conv_depthwise_i8/packed.h"
#include "kernels/declarations.h"
#include "simd/avx2.h"

#include "simd/activation.h"

namespace {

// Without VNNI, the codes of a quad are multiplied as pairs of int16: the even ones and the odd ones.
// (Products of bytes by vpmaddubsw saturate.)
struct CodePairs {
  __m256i even, odd;
};

using I32 = __m256i;
using Taps = CodePairs;
using Quads = CodePairs;
constexpr size_t kQuadBytes = 64;
constexpr bool kSignedInput = false;
constexpr size_t kTile = 4;

inline I32 splat_i32(int32_t x) { return _mm256_set1_epi32(x); }
inline __m256i load_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline I32 load_i32(const int32_t* p) { return load_bytes(p); }
inline I32 multiply(I32 a, I32 b) { return _mm256_mullo_epi32(a, b); }
inline F32 to_float(I32 a) { return _mm256_cvtepi32_ps(a); }
inline Taps load_taps(const int8_t* p) {
  const __m256i codes = load_bytes(p);
  return {_mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 8), _mm256_srai_epi16(codes, 8)};
}
inline Quads load_quads(const char* p) { return {load_bytes(p), load_bytes(p + 32)}; }
inline I32 dot(I32 sums, Quads inputs, Taps taps) {
  sums = _mm256_add_epi32(sums, _mm256_madd_epi16(inputs.even, taps.even));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(inputs.odd, taps.odd));
}

inline __m256i load_codes(const uint8_t* p, size_t count, __m256i flip) {
  uint8_t rest[32] = {};
  if (count < 32) p = static_cast<const uint8_t*>(memcpy(rest, p, count));
  const __m256i places = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  return _mm256_permutevar8x32_epi32(_mm256_xor_si256(load_bytes(p), flip), places);
}

inline void store_pairs(char* at, __m256i codes) {
  auto* to = reinterpret_cast<__m256i*>(at);
  _mm256_storeu_si256(to, _mm256_and_si256(codes, _mm256_set1_epi16(0xFF)));
  _mm256_storeu_si256(to + 1, _mm256_srli_epi16(codes, 8));
}

inline void store_quads(char* at, const uint8_t* const sources[4], size_t count, uint8_t flip) {
  const __m256i flips = _mm256_set1_epi8(static_cast<char>(flip));
  const __m256i a = load_codes(sources[0], count, flips), b = load_codes(sources[1], count, flips);
  const __m256i c = load_codes(sources[2], count, flips), d = load_codes(sources[3], count, flips);
  const __m256i low_ab = _mm256_unpacklo_epi8(a, b), low_cd = _mm256_unpacklo_epi8(c, d);
  store_pairs(at, _mm256_unpacklo_epi16(low_ab, low_cd));
  store_pairs(at + 64, _mm256_unpackhi_epi16(low_ab, low_cd));
  if (count <= 2 * kLanes) return;
  const __m256i high_ab = _mm256_unpackhi_epi8(a, b), high_cd = _mm256_unpackhi_epi8(c, d);
  store_pairs(at + 128, _mm256_unpacklo_epi16(high_ab, high_cd));
  store_pairs(at + 192, _mm256_unpackhi_epi16(high_ab, high_cd));
}

inline __m256i round_codes(F32 y, F32 highest) { return _mm256_cvtps_epi32(min(highest, y)); }

inline void store_codes(int8_t* output, size_t stride, const F32 (&y)[4], Bounds bounds, size_t outputs,
                        size_t count) {
  const __m256i low =
      _mm256_packs_epi32(round_codes(y[0], bounds.highest), round_codes(y[1], bounds.highest));
  const __m256i high =
      _mm256_packs_epi32(round_codes(y[2], bounds.highest), round_codes(y[3], bounds.highest));
  const __m256i places = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i codes = _mm256_max_epi8(_mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), places),
                                        _mm256_set1_epi8(static_cast<char>(bounds.lowest)));
  char bytes[32];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes), codes);
  for (size_t t = 0; t < 4 && t < outputs; ++t) {
    if (count == kLanes)
      memcpy(output + t * stride, bytes + t * kLanes, kLanes);
    else
      memcpy(output + t * stride, bytes + t * kLanes, count);
  }
}

}  // namespace

#include "kernels/conv_depthwise_i8/vector.h"

void ferrule_conv_depthwise_i8_avx2(const ferrule_conv_depthwise_i8_args* args, size_t begin, size_t end,
                                    void* scratch) {
  convolve_depthwise_codes(*args, begin, end, scratch);
}
