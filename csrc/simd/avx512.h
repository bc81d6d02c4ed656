// Vectors of float32 over AVX-512; see simd/README.md. Everything has internal linkage.
#ifndef FERRULE_SIMD_AVX512_H
#define FERRULE_SIMD_AVX512_H

#if !defined(__AVX512F__) || !defined(__AVX512VNNI__)
#error "compile this file with AVX-512 and VNNI enabled (see CMakeLists.txt)"
#endif

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

namespace {

using F32 = __m512;
using Mask = __mmask16;
constexpr size_t kLanes = 16;

inline Mask first_lanes(size_t count) {
  return static_cast<Mask>(_bzhi_u32(0xFFFF, static_cast<unsigned>(count)));
}

inline F32 splat(float x) { return _mm512_set1_ps(x); }
inline F32 zeros() { return _mm512_setzero_ps(); }
inline F32 load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, F32 x) { _mm512_storeu_ps(p, x); }
// The first `count` lanes, 0 <= count <= kLanes; the others read as zero and memory beyond is not touched.
inline F32 load_first(const float* p, size_t count) { return _mm512_maskz_loadu_ps(first_lanes(count), p); }
inline void store_first(float* p, F32 x, size_t count) { _mm512_mask_storeu_ps(p, first_lanes(count), x); }

// kLanes int8 as floats.
inline F32 load_codes(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

// Integral values in [-128, 127] as int8, the first `count` of them.
inline void store_codes(int8_t* p, F32 x, size_t count) {
  _mm512_mask_cvtepi32_storeu_epi8(p, first_lanes(count), _mm512_cvtps_epi32(x));
}

// The 4 x 4 transposition of a vector's double words, which undoes the order of packing within lanes.
inline __m512i transpose_words(__m512i a) {
  const __m512i places = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(places, a);
}

// Neighbours kept apart: memory holds first[0], second[0], first[1], second[1], ...
struct F32Pair {
  F32 first, second;
};
inline F32Pair load_pairs(const float* p) {
  const F32 low = load(p), high = load(p + kLanes);
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return {_mm512_permutex2var_ps(low, even, high), _mm512_permutex2var_ps(low, odd, high)};
}
inline void store_pairs(float* p, F32Pair pairs) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  store(p, _mm512_permutex2var_ps(pairs.first, low, pairs.second));
  store(p + kLanes, _mm512_permutex2var_ps(pairs.first, high, pairs.second));
}

// x with the lanes from `count` on replaced by `filler`.
inline F32 keep_first(F32 x, size_t count, float filler) {
  return _mm512_mask_mov_ps(_mm512_set1_ps(filler), first_lanes(count), x);
}

inline F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
inline F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
inline F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
inline F32 div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
// a / b to the last bit or the one beside it, for |b| of [2^-100, 2^100] and a quotient in the normal range.
// The divider takes three times as long as this.
inline F32 divide_near(F32 a, F32 b) {
  const F32 inverse = _mm512_rcp14_ps(b);
  const F32 guess = _mm512_mul_ps(a, inverse);
  return _mm512_fmadd_ps(_mm512_fnmadd_ps(guess, b, a), inverse, guess);
}
// 1 / a within 1 unit of the last place or so, for a of [2^-125, 2^125].
inline F32 invert_near(F32 a) {
  const F32 guess = _mm512_rcp14_ps(a);
  return _mm512_fmadd_ps(guess, _mm512_fnmadd_ps(guess, a, _mm512_set1_ps(1)), guess);
}
inline F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
inline F32 fnma(F32 a, F32 b, F32 c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
// The smaller and larger of two; where one of them is NaN, the second.
inline F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
inline F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
inline F32 abs(F32 a) { return _mm512_abs_ps(a); }
inline F32 copy_sign(F32 magnitude, F32 sign) {
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(
      _mm512_castps_si512(magnitude), _mm512_castps_si512(sign), _mm512_set1_epi32(INT32_MIN), 0xD8));
}
inline F32 sqrt(F32 a) { return _mm512_sqrt_ps(a); }
inline F32 round_even(F32 a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// a * 2^n for integral n; under- and overflow as IEEE would.
inline F32 scale_by_power(F32 a, F32 n) { return _mm512_scalef_ps(a, n); }
// a * 2^n for integral n, where a, 2^n and the result are in the normal range.
inline F32 scale_in_range(F32 a, F32 n) { return _mm512_scalef_ps(a, n); }
// a * 2^n for a of [0.5, 2] and integral n of [-151, 0]; what would lie below 2^-125 may be flushed to zero.
inline F32 scale_down(F32 a, F32 n) { return _mm512_scalef_ps(a, n); }

inline Mask less(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
inline Mask is_nan(F32 a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
inline F32 select(Mask mask, F32 yes, F32 no) { return _mm512_mask_blend_ps(mask, no, yes); }

inline float sum_lanes(F32 a) { return _mm512_reduce_add_ps(a); }
inline float max_lanes(F32 a) { return _mm512_reduce_max_ps(a); }
inline float min_lanes(F32 a) { return _mm512_reduce_min_ps(a); }

// sums[i] plus the four products of unsigned and signed codes that lie in lane i. In assembly, since GCC 12
// spills the accumulators of a tile when it is written with the intrinsic: half the speed.
inline __m512i dot_codes(__m512i sums, __m512i unsigned_codes, __m512i signed_codes) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(unsigned_codes), "v"(signed_codes));
  return sums;
}

}  // namespace

#include "simd/loops.h"
#include "simd/math.h"

#include "simd/gelu_table.h"

#endif
