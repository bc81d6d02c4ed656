#include <math.h>
#include <string.h>

#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/attention_i8/layout.h"

namespace {

using I32 = int32x4_t;

constexpr int8_t kQueryFlip = 0;  // sdot multiplies signed codes

inline bool any(Mask mask) { return vmaxvq_u32(mask) != 0; }

inline I32 no_sums() { return vdupq_n_s32(0); }
inline I32 first_sums(const int32_t*) { return no_sums(); }
inline I32 load_codes_of(const int8_t* codes) { return vreinterpretq_s32_s8(vld1q_s8(codes)); }
// As code + 128: weights are unsigned, and udot takes both of one kind.
inline I32 load_values(const int8_t* codes) {
  return vreinterpretq_s32_s8(veorq_s8(vld1q_s8(codes), vdupq_n_s8(-128)));
}
inline I32 splat_four(const void* codes) {
  int32_t four;
  memcpy(&four, codes, sizeof(four));
  return vdupq_n_s32(four);
}
inline I32 dot_scores(I32 sums, I32 four, I32 keys) {
  return vdotq_s32(sums, vreinterpretq_s8_s32(four), vreinterpretq_s8_s32(keys));
}
inline I32 dot_weights(I32 sums, I32 four, I32 values) {
  return vreinterpretq_s32_u32(
      vdotq_u32(vreinterpretq_u32_s32(sums), vreinterpretq_u8_s32(four), vreinterpretq_u8_s32(values)));
}
inline I32 weighted_sums(I32 sums, int32_t total) { return vsubq_s32(sums, vdupq_n_s32(128 * total)); }
inline I32 add_signed(I32 sums, I32 codes) {
  return vdotq_s32(sums, vdupq_n_s8(1), vreinterpretq_s8_s32(codes));
}
inline F32 to_float(I32 x) { return vcvtq_f32_s32(x); }
inline int32_t sum_of(I32 x) { return vaddvq_s32(x); }

// round(x * inverse) in the lowest byte of each lane.
inline I32 encode(F32 x, F32 inverse) { return vreinterpretq_s32_f32(fma(x, inverse, splat(kRounder))); }

inline void store_four(int8_t* to, int8_t code) { memset(to, code, 4); }

// Codes of four channels of a key: a row of its panel.
inline void store_fours(int8_t* to, I32 codes) {
  const int16x4_t words = vmovn_s32(codes);
  const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
  const int32_t four = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
  memcpy(to, &four, sizeof(four));
}

inline void store_fours_side_by_side(int8_t* to, I32 codes) { store_fours(to, codes); }

// The lowest bytes of four vectors, side by side in each lane.
inline void store_joined(int8_t* to, I32 a, I32 b, I32 c, I32 d) {
  vst1q_s8(to, vreinterpretq_s8_s32(vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(a, b, 8), c, 16), d, 24)));
}

inline void store_correction(int32_t* to, I32 sums) { vst1q_s32(to, vnegq_s32(vshlq_n_s32(sums, 7))); }

// round(2^x), of small weights + dither, in each lane.
inline I32 weigh(F32 x, F32 dither) {
  x = max(splat(kLeastWeight), x);
  const F32 whole = vrndmq_f32(x), r = sub(x, whole);
  F32 p = fma(splat(kPower[3]), r, splat(kPower[2]));
  p = fma(fma(p, r, splat(kPower[1])), r, splat(kPower[0]));
  return vcvtnq_s32_f32(add(scale_in_range(p, whole), select(less(x, splat(kDithered)), dither, zeros())));
}

inline I32 store_weights(uint8_t* to, const I32 (&parts)[4], I32 total) {
  const int16x8_t low = vcombine_s16(vqmovn_s32(parts[0]), vqmovn_s32(parts[1]));
  const int16x8_t high = vcombine_s16(vqmovn_s32(parts[2]), vqmovn_s32(parts[3]));
  const uint8x16_t bytes = vcombine_u8(vqmovun_s16(low), vqmovun_s16(high));
  vst1q_u8(to, bytes);
  return vreinterpretq_s32_u32(vdotq_u32(vreinterpretq_u32_s32(total), bytes, vdupq_n_u8(1)));
}

}  // namespace

#include "kernels/attention_i8/vector.h"

void ferrule_attention_i8_prepare_dotprod(const ferrule_attention_args* args, size_t begin, size_t end,
                                          void* scratch) {
  prepare_heads(*args, begin, end, scratch);
}

void ferrule_attention_i8_dotprod(const ferrule_attention_args* args, size_t begin, size_t end,
                                  void* scratch) {
  attend_codes(*args, begin, end, scratch);
}
