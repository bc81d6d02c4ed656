// Vectors of float32 over AVX2 and FMA; see simd/README.md. Everything has internal linkage.
#ifndef FERRULE_SIMD_AVX2_H
#define FERRULE_SIMD_AVX2_H

#if !defined(__AVX2__) || !defined(__FMA__)
#error "compile this file with AVX2 and FMA enabled (see CMakeLists.txt)"
#endif

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

namespace {

using F32 = __m256;
using Mask = __m256;
constexpr size_t kLanes = 8;

inline __m256i first_lanes(size_t count) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
}

inline F32 splat(float x) { return _mm256_set1_ps(x); }
inline F32 zeros() { return _mm256_setzero_ps(); }
inline F32 load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, F32 x) { _mm256_storeu_ps(p, x); }
// The first `count` lanes, 0 <= count <= kLanes; the others read as zero and memory beyond is not touched.
inline F32 load_first(const float* p, size_t count) { return _mm256_maskload_ps(p, first_lanes(count)); }
inline void store_first(float* p, F32 x, size_t count) { _mm256_maskstore_ps(p, first_lanes(count), x); }

// kLanes int8 as floats.
inline F32 load_codes(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// Integral values in [-128, 127] as int8, the first `count` of them.
inline void store_codes(int8_t* p, F32 x, size_t count) {
  const __m256i wide = _mm256_cvtps_epi32(x);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  const long long codes = _mm_cvtsi128_si64(_mm_packs_epi16(words, words));
  if (count == kLanes)
    __builtin_memcpy(p, &codes, kLanes);
  else
    for (size_t i = 0; i < count; ++i) p[i] = static_cast<int8_t>(codes >> (8 * i));
}

// Neighbours kept apart: memory holds first[0], second[0], first[1], second[1], ...
struct F32Pair {
  F32 first, second;
};
inline F32Pair load_pairs(const float* p) {
  const F32 a = load(p), b = load(p + kLanes);
  const F32 low = _mm256_permute2f128_ps(a, b, 0x20), high = _mm256_permute2f128_ps(a, b, 0x31);
  return {_mm256_shuffle_ps(low, high, 0x88), _mm256_shuffle_ps(low, high, 0xDD)};
}
inline void store_pairs(float* p, F32Pair pairs) {
  const F32 low = _mm256_unpacklo_ps(pairs.first, pairs.second);
  const F32 high = _mm256_unpackhi_ps(pairs.first, pairs.second);
  store(p, _mm256_permute2f128_ps(low, high, 0x20));
  store(p + kLanes, _mm256_permute2f128_ps(low, high, 0x31));
}

// x with the lanes from `count` on replaced by `filler`.
inline F32 keep_first(F32 x, size_t count, float filler) {
  return _mm256_blendv_ps(_mm256_set1_ps(filler), x, _mm256_castsi256_ps(first_lanes(count)));
}

inline F32 add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
inline F32 sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
inline F32 mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
inline F32 div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
// a / b to the last bit or the one beside it, for |b| of [2^-100, 2^100] and a quotient in the normal range.
inline F32 divide_near(F32 a, F32 b) { return _mm256_div_ps(a, b); }
// 1 / a within 1 unit of the last place or so, for a of [2^-125, 2^125].
inline F32 invert_near(F32 a) { return _mm256_div_ps(_mm256_set1_ps(1), a); }
inline F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }    // a * b + c
inline F32 fnma(F32 a, F32 b, F32 c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
// The smaller and larger of two; where one of them is NaN, the second.
inline F32 min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
inline F32 max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
inline F32 abs(F32 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline F32 copy_sign(F32 magnitude, F32 sign) {
  const F32 bit = _mm256_set1_ps(-0.0f);
  return _mm256_or_ps(_mm256_andnot_ps(bit, magnitude), _mm256_and_ps(bit, sign));
}
inline F32 sqrt(F32 a) { return _mm256_sqrt_ps(a); }
inline F32 round_even(F32 a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// a * 2^n for integral n, |n| <= 252, in two factors so that results below the normal range keep their value.
inline F32 scale_by_power(F32 a, F32 n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i rest = _mm256_sub_epi32(whole, half);
  const __m256i bias = _mm256_set1_epi32(127);
  const F32 first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const F32 second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(a, first), second);
}
// a * 2^n for integral n, where a, 2^n and the result are in the normal range.
inline F32 scale_in_range(F32 a, F32 n) {
  const __m256i shifted = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), shifted));
}
// a * 2^n for a of [0.5, 2] and integral n of [-151, 0]; what would lie below 2^-125 may be flushed to zero.
inline F32 scale_down(F32 a, F32 n) {
  return _mm256_andnot_ps(_mm256_cmp_ps(n, _mm256_set1_ps(-125), _CMP_LT_OQ), scale_in_range(a, n));
}

inline Mask less(F32 a, F32 b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
inline Mask is_nan(F32 a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
inline F32 select(Mask mask, F32 yes, F32 no) { return _mm256_blendv_ps(no, yes, mask); }

inline float sum_lanes(F32 a) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float max_lanes(F32 a) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline float min_lanes(F32 a) {
  const __m128 four = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace

#include "simd/loops.h"
#include "simd/math.h"

#include "simd/gelu_quotient.h"

#endif
