// Vectors of float32 over NEON of AArch64; see simd/README.md. Everything has internal linkage.
#ifndef FERRULE_SIMD_NEON_H
#define FERRULE_SIMD_NEON_H

#if !defined(__aarch64__)
#error "this file is for AArch64"
#endif

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace {

using F32 = float32x4_t;
using Mask = uint32x4_t;
constexpr size_t kLanes = 4;

inline F32 splat(float x) { return vdupq_n_f32(x); }
inline F32 zeros() { return vdupq_n_f32(0); }
inline F32 load(const float* p) { return vld1q_f32(p); }
inline void store(float* p, F32 x) { vst1q_f32(p, x); }
// The first `count` lanes, 0 <= count <= kLanes; the others read as zero and memory beyond is not touched.
inline F32 load_first(const float* p, size_t count) {
  switch (count) {
    case 0:
      return zeros();
    case 1:
      return vsetq_lane_f32(p[0], zeros(), 0);
    case 2:
      return vcombine_f32(vld1_f32(p), vdup_n_f32(0));
    case 3:
      return vcombine_f32(vld1_f32(p), vset_lane_f32(p[2], vdup_n_f32(0), 0));
    default:
      return load(p);
  }
}
inline void store_first(float* p, F32 x, size_t count) {
  switch (count) {
    case 0:
      return;
    case 1:
      return vst1q_lane_f32(p, x, 0);
    case 2:
      return vst1_f32(p, vget_low_f32(x));
    case 3:
      vst1_f32(p, vget_low_f32(x));
      return vst1q_lane_f32(p + 2, x, 2);
    default:
      return store(p, x);
  }
}

// kLanes int8 as floats.
inline F32 load_codes(const int8_t* p) {
  int32_t word;
  memcpy(&word, p, sizeof(word));
  const int16x8_t words = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(word)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
}

// Integral values in [-128, 127] as int8, the first `count` of them.
inline void store_codes(int8_t* p, F32 x, size_t count) {
  const int16x4_t words = vqmovn_s32(vcvtnq_s32_f32(x));
  const int8x8_t codes = vqmovn_s16(vcombine_s16(words, words));
  if (count == kLanes) {
    const uint32_t four = vget_lane_u32(vreinterpret_u32_s8(codes), 0);
    __builtin_memcpy(p, &four, kLanes);
  } else {
    int8_t lanes[8];
    vst1_s8(lanes, codes);
    for (size_t i = 0; i < count; ++i) p[i] = lanes[i];
  }
}

// Neighbours kept apart: memory holds first[0], second[0], first[1], second[1], ...
struct F32Pair {
  F32 first, second;
};
inline F32Pair load_pairs(const float* p) {
  const float32x4x2_t x = vld2q_f32(p);
  return {x.val[0], x.val[1]};
}
inline void store_pairs(float* p, F32Pair pairs) {
  const float32x4x2_t x = {{pairs.first, pairs.second}};
  vst2q_f32(p, x);
}

// x with the lanes from `count` on replaced by `filler`.
inline F32 keep_first(F32 x, size_t count, float filler) {
  const uint32_t lanes[kLanes] = {0, 1, 2, 3};
  return vbslq_f32(vcltq_u32(vld1q_u32(lanes), vdupq_n_u32(static_cast<uint32_t>(count))), x,
                   vdupq_n_f32(filler));
}

inline F32 add(F32 a, F32 b) { return vaddq_f32(a, b); }
inline F32 sub(F32 a, F32 b) { return vsubq_f32(a, b); }
inline F32 mul(F32 a, F32 b) { return vmulq_f32(a, b); }
inline F32 div(F32 a, F32 b) { return vdivq_f32(a, b); }
// a / b to the last bit or the one beside it, for |b| of [2^-100, 2^100] and a quotient in the normal range.
inline F32 divide_near(F32 a, F32 b) { return vdivq_f32(a, b); }
// 1 / a within 1 unit of the last place or so, for a of [2^-125, 2^125].
inline F32 invert_near(F32 a) { return vdivq_f32(vdupq_n_f32(1), a); }
inline F32 fma(F32 a, F32 b, F32 c) { return vfmaq_f32(c, a, b); }   // a * b + c
inline F32 fnma(F32 a, F32 b, F32 c) { return vfmsq_f32(c, a, b); }  // c - a * b
// The smaller and larger of two; where one of them is NaN, the second.
inline F32 min(F32 a, F32 b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
inline F32 max(F32 a, F32 b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline F32 abs(F32 a) { return vabsq_f32(a); }
inline F32 copy_sign(F32 magnitude, F32 sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude); }
inline F32 sqrt(F32 a) { return vsqrtq_f32(a); }
inline F32 round_even(F32 a) { return vrndnq_f32(a); }
// a * 2^n for integral n, |n| <= 252, in two factors so that results below the normal range keep their value.
inline F32 scale_by_power(F32 a, F32 n) {
  const int32x4_t whole = vcvtnq_s32_f32(n);
  const int32x4_t half = vshrq_n_s32(whole, 1);
  const int32x4_t rest = vsubq_s32(whole, half);
  const int32x4_t bias = vdupq_n_s32(127);
  const F32 first = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
  const F32 second = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
  return vmulq_f32(vmulq_f32(a, first), second);
}
// a * 2^n for integral n, where a, 2^n and the result are in the normal range.
inline F32 scale_in_range(F32 a, F32 n) {
  return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), vshlq_n_s32(vcvtnq_s32_f32(n), 23)));
}
// a * 2^n for a of [0.5, 2] and integral n of [-151, 0]; what would lie below 2^-125 may be flushed to zero.
inline F32 scale_down(F32 a, F32 n) {
  const uint32x4_t scaled = vreinterpretq_u32_f32(scale_in_range(a, n));
  return vreinterpretq_f32_u32(vbicq_u32(scaled, vcltq_f32(n, vdupq_n_f32(-125))));
}

inline Mask less(F32 a, F32 b) { return vcltq_f32(a, b); }
inline Mask is_nan(F32 a) { return vmvnq_u32(vceqq_f32(a, a)); }
inline F32 select(Mask mask, F32 yes, F32 no) { return vbslq_f32(mask, yes, no); }

inline float sum_lanes(F32 a) { return vaddvq_f32(a); }
inline float max_lanes(F32 a) { return vmaxvq_f32(a); }
inline float min_lanes(F32 a) { return vminvq_f32(a); }

}  // namespace

#include "simd/loops.h"
#include "simd/math.h"

#include "simd/gelu_quotient.h"

#endif
