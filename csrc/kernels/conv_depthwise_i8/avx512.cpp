#include <math.h>
#include <string.h>

#include "kernels/conv_depthwise_i8/packed.h"
#include "kernels/declarations.h"
#include "simd/avx512.h"

#include "simd/activation.h"
#include "simd/avx512_codes.h"

namespace {

using I32 = __m512i;
using Taps = __m512i;
using Quads = __m512i;
constexpr size_t kQuadBytes = 64;
constexpr bool kSignedInput = false;
constexpr size_t kTile = 8;

inline I32 splat_i32(int32_t x) { return _mm512_set1_epi32(x); }
inline I32 load_i32(const int32_t* p) { return _mm512_loadu_si512(p); }
inline I32 multiply(I32 a, I32 b) { return _mm512_mullo_epi32(a, b); }
inline F32 to_float(I32 a) { return _mm512_cvtepi32_ps(a); }
inline Taps load_taps(const int8_t* p) { return _mm512_loadu_si512(p); }
inline Quads load_quads(const char* p) { return _mm512_load_si512(p); }
inline I32 dot(I32 sums, Quads inputs, Taps taps) { return dot_codes(sums, inputs, taps); }

inline __m512i load_codes(const uint8_t* p, __mmask64 mask, __m512i flip) {
  return transpose_words(_mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, p), flip));
}

inline void store_quads(char* at, const uint8_t* const sources[4], size_t count, uint8_t flip) {
  const __mmask64 mask = _bzhi_u64(~0ull, static_cast<unsigned>(count));
  const __m512i flips = _mm512_set1_epi8(static_cast<char>(flip));
  const __m512i a = load_codes(sources[0], mask, flips), b = load_codes(sources[1], mask, flips);
  const __m512i c = load_codes(sources[2], mask, flips), d = load_codes(sources[3], mask, flips);
  const __m512i low_ab = _mm512_unpacklo_epi8(a, b), low_cd = _mm512_unpacklo_epi8(c, d);
  _mm512_store_si512(at, _mm512_unpacklo_epi16(low_ab, low_cd));
  _mm512_store_si512(at + 64, _mm512_unpackhi_epi16(low_ab, low_cd));
  if (count <= 2 * kLanes) return;
  const __m512i high_ab = _mm512_unpackhi_epi8(a, b), high_cd = _mm512_unpackhi_epi8(c, d);
  _mm512_store_si512(at + 128, _mm512_unpacklo_epi16(high_ab, high_cd));
  _mm512_store_si512(at + 192, _mm512_unpackhi_epi16(high_ab, high_cd));
}

inline void store_codes(int8_t* output, size_t stride, const F32 (&y)[4], Bounds bounds, size_t outputs,
                        size_t count) {
  store_code_rows(output, stride, round_codes(y, bounds), outputs, first_lanes(count));
}

}  // namespace

#include "kernels/conv_depthwise_i8/vector.h"

void ferrule_conv_depthwise_i8_avx512(const ferrule_conv_depthwise_i8_args* args, size_t begin, size_t end,
                                      void* scratch) {
  convolve_depthwise_codes(*args, begin, end, scratch);
}
