#include <math.h>
#include <string.h>

#include "kernels/declarations.h"
#include "simd/avx2.h"

#include "kernels/attention/layout.h"

namespace {

constexpr int kTileRows = 6, kTileVectors = 2, kDotVectors = 8, kFoldLevels = 3;

alignas(32) constexpr float kLaneNumbers[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7};

alignas(32) constexpr float kPairNumbers[kLanes] = {0, 1, 2, 3, 0, 1, 2, 3};

inline F32 low_bits_to_exponent(F32 x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 23));
}
// a * b, and zero where `hidden`.
inline F32 mul_unless(Mask hidden, F32 a, F32 b) { return _mm256_andnot_ps(hidden, mul(a, b)); }
// x, which the compiler must not read from memory anew at each use.
inline F32 in_register(F32 x) {
  __asm__("" : "+x"(x));
  return x;
}

inline __m128i load_bytes(const unsigned char* p) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}
inline F32 load_signed(const unsigned char* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_bytes(p)));
}
inline F32 load_unsigned(const unsigned char* p, int shift, int mask) {
  const __m256i bytes = _mm256_srl_epi32(_mm256_cvtepu8_epi32(load_bytes(p)), _mm_cvtsi32_si128(shift));
  return _mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(mask)));
}

// What the codes of one row stand for: scale and offset, or the table of all values.
struct Codebook {
  F32 scale, values;
};
template <ferrule_kv_kind kKind>
inline Codebook make_codebook(float scale, float offset) {
  if constexpr (kKind != FERRULE_KV_I2) return {splat(scale), splat(offset)};
  return {zeros(), fma(load(kPairNumbers), splat(scale), splat(offset))};
}

using Codes = __m256i;
template <ferrule_kv_kind kKind>
inline Codes load_codes(const unsigned char* p) {
  return kKind == FERRULE_KV_I8 ? _mm256_cvtepi8_epi32(load_bytes(p)) : _mm256_cvtepu8_epi32(load_bytes(p));
}
template <ferrule_kv_kind kKind>
inline F32 look_up(Codes codes, int plane, const Codebook& book) {
  if constexpr (kKind == FERRULE_KV_I2)
    return _mm256_permutevar_ps(book.values, _mm256_srli_epi32(codes, 2 * plane));
  if constexpr (kKind == FERRULE_KV_I4)
    codes = _mm256_and_si256(_mm256_srli_epi32(codes, 4 * plane), _mm256_set1_epi32(15));
  return fma(_mm256_cvtepi32_ps(codes), book.scale, book.values);
}

// Sums of neighbouring parts: lanes of `a` that belong to one key are added pairwise, those of `b` likewise.
// After all levels, lane key_of_leaf(n) holds the sum of all lanes of leaf n.
template <int kLevel>
inline F32 fold(F32 a, F32 b) {
  if constexpr (kLevel == 0)
    return add(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  else if constexpr (kLevel == 1)
    return add(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xEE));
  else
    return add(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xDD));
}
constexpr size_t key_of_leaf(size_t leaf) { return 4 * (leaf % 2) + leaf / 2; }

// to[c][t] = from[t][c] for kLanes x kLanes elements: pairs, then fours, then the halves of the registers.
inline void transpose(const float* from, size_t stride, float* to) {
  F32 rows[8], fours[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) rows[i] = load(from + static_cast<size_t>(i) * stride);
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(rows[i], rows[i + 1]));
    const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(rows[i], rows[i + 1]));
    const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(rows[i + 2], rows[i + 3]));
    const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(rows[i + 2], rows[i + 3]));
    fours[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    fours[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    fours[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    fours[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    float* column = to + static_cast<size_t>(i) * kKeyBlock;
    store(column, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20));
    store(column + 4 * kKeyBlock, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31));
  }
}

}  // namespace

#include "kernels/attention/vector.h"

void ferrule_attention_prefill_avx2(const ferrule_attention_args* args, size_t begin, size_t end,
                                    void* scratch) {
  attend_prefill(*args, begin, end, scratch);
}

void ferrule_attention_decode_avx2(const ferrule_attention_args* args, size_t begin, size_t end,
                                   void* scratch) {
  attend_decode(*args, begin, end, scratch);
}
