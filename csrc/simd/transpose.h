// transpose() of a square of vectors for simd/{avx2,avx512,neon}.h, one of which must come before this file.
#ifndef FERRULE_SIMD_TRANSPOSE_H
#define FERRULE_SIMD_TRANSPOSE_H

namespace {

// Lane j of vector i becomes lane i of vector j.
inline void transpose(F32 (&v)[kLanes]);

#if defined(__AVX512F__)

inline __m512 pairs_low(__m512 a, __m512 b) {
  return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
inline __m512 pairs_high(__m512 a, __m512 b) {
  return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

inline void transpose(F32 (&v)[kLanes]) {
  F32 t[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
  }
  // Quarter q of v[4 * g + c] holds column 4 * q + c of the rows from 4 * g on.
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    v[i] = pairs_low(t[i], t[i + 2]);
    v[i + 1] = pairs_high(t[i], t[i + 2]);
    v[i + 2] = pairs_low(t[i + 1], t[i + 3]);
    v[i + 3] = pairs_high(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const F32 even_top = _mm512_shuffle_f32x4(v[c], v[4 + c], 0x88);
    const F32 odd_top = _mm512_shuffle_f32x4(v[c], v[4 + c], 0xDD);
    const F32 even_bottom = _mm512_shuffle_f32x4(v[8 + c], v[12 + c], 0x88);
    const F32 odd_bottom = _mm512_shuffle_f32x4(v[8 + c], v[12 + c], 0xDD);
    v[c] = _mm512_shuffle_f32x4(even_top, even_bottom, 0x88);
    v[4 + c] = _mm512_shuffle_f32x4(odd_top, odd_bottom, 0x88);
    v[8 + c] = _mm512_shuffle_f32x4(even_top, even_bottom, 0xDD);
    v[12 + c] = _mm512_shuffle_f32x4(odd_top, odd_bottom, 0xDD);
  }
}

#elif defined(__AVX2__)

inline __m256 pairs_low(__m256 a, __m256 b) {
  return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
inline __m256 pairs_high(__m256 a, __m256 b) {
  return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}

inline void transpose(F32 (&v)[kLanes]) {
  F32 t[kLanes];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  // Half q of v[4 * g + c] holds column 4 * q + c of the rows from 4 * g on.
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    v[i] = pairs_low(t[i], t[i + 2]);
    v[i + 1] = pairs_high(t[i], t[i + 2]);
    v[i + 2] = pairs_low(t[i + 1], t[i + 3]);
    v[i + 3] = pairs_high(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const F32 top = v[c], bottom = v[4 + c];
    v[c] = _mm256_permute2f128_ps(top, bottom, 0x20);
    v[4 + c] = _mm256_permute2f128_ps(top, bottom, 0x31);
  }
}

#else

inline F32 pairs_even(F32 a, F32 b) {
  return vreinterpretq_f32_f64(vtrn1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
}
inline F32 pairs_odd(F32 a, F32 b) {
  return vreinterpretq_f32_f64(vtrn2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
}

inline void transpose(F32 (&v)[kLanes]) {
  const F32 even_top = vtrn1q_f32(v[0], v[1]), odd_top = vtrn2q_f32(v[0], v[1]);
  const F32 even_bottom = vtrn1q_f32(v[2], v[3]), odd_bottom = vtrn2q_f32(v[2], v[3]);
  v[0] = pairs_even(even_top, even_bottom);
  v[1] = pairs_even(odd_top, odd_bottom);
  v[2] = pairs_odd(even_top, even_bottom);
  v[3] = pairs_odd(odd_top, odd_bottom);
}

#endif

}  // namespace

#endif
