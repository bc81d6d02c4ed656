#include <math.h>
#include <string.h>

#include "kernels/declarations.h"
#include "simd/avx512.h"

#include "kernels/attention/layout.h"

namespace {

constexpr int kTileRows = 6, kTileVectors = 4, kDotVectors = 4, kFoldLevels = 4;

alignas(64) constexpr float kLaneNumbers[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

alignas(64) constexpr float kPairNumbers[kLanes] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};

inline F32 low_bits_to_exponent(F32 x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 23));
}
// a * b, and zero where `hidden`.
inline F32 mul_unless(Mask hidden, F32 a, F32 b) {
  return _mm512_maskz_mul_ps(static_cast<Mask>(~hidden), a, b);
}
// x, which the compiler must not read from memory anew at each use.
inline F32 in_register(F32 x) {
  __asm__("" : "+v"(x));
  return x;
}

inline __m128i load_bytes(const unsigned char* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline F32 load_signed(const unsigned char* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_bytes(p)));
}
inline F32 load_unsigned(const unsigned char* p, int shift, int mask) {
  const __m512i bytes = _mm512_srl_epi32(_mm512_cvtepu8_epi32(load_bytes(p)), _mm_cvtsi32_si128(shift));
  return _mm512_cvtepi32_ps(_mm512_and_si512(bytes, _mm512_set1_epi32(mask)));
}

// What the codes of one row stand for: scale and offset, or the table of all values.
struct Codebook {
  F32 scale, values;
};
template <ferrule_kv_kind kKind>
inline Codebook make_codebook(float scale, float offset) {
  if constexpr (kKind == FERRULE_KV_I8) return {splat(scale), splat(offset)};
  return {zeros(),
          fma(load(kKind == FERRULE_KV_I4 ? kLaneNumbers : kPairNumbers), splat(scale), splat(offset))};
}

using Codes = __m512i;
template <ferrule_kv_kind kKind>
inline Codes load_codes(const unsigned char* p) {
  return kKind == FERRULE_KV_I8 ? _mm512_cvtepi8_epi32(load_bytes(p)) : _mm512_cvtepu8_epi32(load_bytes(p));
}
// The tables are indexed by the lowest bits of a lane alone: no mask is needed.
template <ferrule_kv_kind kKind>
inline F32 look_up(Codes codes, int plane, const Codebook& book) {
  if constexpr (kKind == FERRULE_KV_I8)
    return fma(_mm512_cvtepi32_ps(codes), book.scale, book.values);
  else if constexpr (kKind == FERRULE_KV_I4)
    return _mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4 * plane), book.values);
  else
    return _mm512_permutevar_ps(book.values, _mm512_srli_epi32(codes, 2 * plane));
}

// Sums of neighbouring parts: lanes of `a` that belong to one key are added pairwise, those of `b` likewise.
// After all levels, lane key_of_leaf(n) holds the sum of all lanes of leaf n.
template <int kLevel>
inline F32 fold(F32 a, F32 b) {
  if constexpr (kLevel == 0)
    return add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
  else if constexpr (kLevel == 1)
    return add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
  else if constexpr (kLevel == 2)
    return add(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
  else
    return add(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD));
}
constexpr size_t key_of_leaf(size_t leaf) { return 4 * (leaf % 4) + leaf / 4; }

// to[c][t] = from[t][c] for kLanes x kLanes elements: pairs, then fours, then the quarters of the registers.
inline void transpose(const float* from, size_t stride, float* to) {
  F32 rows[16], fours[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) rows[i] = load(from + static_cast<size_t>(i) * stride);
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i], rows[i + 1]));
    const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i], rows[i + 1]));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i + 2], rows[i + 3]));
    const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i + 2], rows[i + 3]));
    fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const F32 even_low = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0x88);
    const F32 even_high = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0x88);
    const F32 odd_low = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0xDD);
    const F32 odd_high = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0xDD);
    float* column = to + static_cast<size_t>(i) * kKeyBlock;
    store(column, _mm512_shuffle_f32x4(even_low, even_high, 0x88));
    store(column + 4 * kKeyBlock, _mm512_shuffle_f32x4(odd_low, odd_high, 0x88));
    store(column + 8 * kKeyBlock, _mm512_shuffle_f32x4(even_low, even_high, 0xDD));
    store(column + 12 * kKeyBlock, _mm512_shuffle_f32x4(odd_low, odd_high, 0xDD));
  }
}

}  // namespace

#include "kernels/attention/vector.h"

void ferrule_attention_prefill_avx512(const ferrule_attention_args* args, size_t begin, size_t end,
                                      void* scratch) {
  attend_prefill(*args, begin, end, scratch);
}

void ferrule_attention_decode_avx512(const ferrule_attention_args* args, size_t begin, size_t end,
                                     void* scratch) {
  attend_decode(*args, begin, end, scratch);
}
