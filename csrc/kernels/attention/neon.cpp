#include <math.h>
#include <string.h>

#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/attention/layout.h"

namespace {

constexpr int kTileRows = 6, kTileVectors = 4, kDotVectors = 16, kFoldLevels = 2;

alignas(16) constexpr float kLaneNumbers[kLanes] = {0, 1, 2, 3};

inline F32 low_bits_to_exponent(F32 x) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(x), 23));
}
// a * b, and zero where `hidden`.
inline F32 mul_unless(Mask hidden, F32 a, F32 b) {
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(mul(a, b)), hidden));
}
// x, which the compiler must not read from memory anew at each use.
inline F32 in_register(F32 x) {
  __asm__("" : "+w"(x));
  return x;
}

inline uint8x8_t load_bytes(const unsigned char* p) {
  uint32_t four;
  memcpy(&four, p, sizeof four);
  return vreinterpret_u8_u32(vdup_n_u32(four));
}
inline F32 load_signed(const unsigned char* p) {
  const int16x4_t wide = vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_bytes(p))));
  return vcvtq_f32_s32(vmovl_s16(wide));
}
inline F32 load_unsigned(const unsigned char* p, int shift, int mask) {
  const uint16x4_t wide = vget_low_u16(vmovl_u8(load_bytes(p)));
  const uint32x4_t bytes = vshlq_u32(vmovl_u16(wide), vdupq_n_s32(-shift));
  return vcvtq_f32_u32(vandq_u32(bytes, vdupq_n_u32(static_cast<uint32_t>(mask))));
}

// What the codes of one row stand for.
struct Codebook {
  F32 scale, offset;
};
template <ferrule_kv_kind kKind>
inline Codebook make_codebook(float scale, float offset) {
  return {splat(scale), splat(offset)};
}

using Codes = uint32x4_t;
template <ferrule_kv_kind kKind>
inline Codes load_codes(const unsigned char* p) {
  if constexpr (kKind != FERRULE_KV_I8) return vmovl_u16(vget_low_u16(vmovl_u8(load_bytes(p))));
  return vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_bytes(p))))));
}
template <ferrule_kv_kind kKind>
inline F32 look_up(Codes codes, int plane, const Codebook& book) {
  if constexpr (kKind == FERRULE_KV_I8)
    return fma(vcvtq_f32_s32(vreinterpretq_s32_u32(codes)), book.scale, book.offset);
  const uint32x4_t shifted = vshlq_u32(codes, vdupq_n_s32(kKind == FERRULE_KV_I4 ? -4 * plane : -2 * plane));
  const uint32x4_t code = vandq_u32(shifted, vdupq_n_u32(kKind == FERRULE_KV_I4 ? 15 : 3));
  return fma(vcvtq_f32_u32(code), book.scale, book.offset);
}

// Sums of neighbouring lanes of `a`, then of `b`. After all levels lane n holds the sum of all lanes of leaf
// n.
template <int kLevel>
inline F32 fold(F32 a, F32 b) {
  return vpaddq_f32(a, b);
}
constexpr size_t key_of_leaf(size_t leaf) { return leaf; }

// to[c][t] = from[t][c] for kLanes x kLanes elements.
inline void transpose(const float* from, size_t stride, float* to) {
  const F32 a = load(from), b = load(from + stride), c = load(from + 2 * stride), d = load(from + 3 * stride);
  const float64x2_t ab_low = vreinterpretq_f64_f32(vzip1q_f32(a, b)),
                    ab_high = vreinterpretq_f64_f32(vzip2q_f32(a, b));
  const float64x2_t cd_low = vreinterpretq_f64_f32(vzip1q_f32(c, d)),
                    cd_high = vreinterpretq_f64_f32(vzip2q_f32(c, d));
  store(to, vreinterpretq_f32_f64(vzip1q_f64(ab_low, cd_low)));
  store(to + kKeyBlock, vreinterpretq_f32_f64(vzip2q_f64(ab_low, cd_low)));
  store(to + 2 * kKeyBlock, vreinterpretq_f32_f64(vzip1q_f64(ab_high, cd_high)));
  store(to + 3 * kKeyBlock, vreinterpretq_f32_f64(vzip2q_f64(ab_high, cd_high)));
}

}  // namespace

#include "kernels/attention/vector.h"

void ferrule_attention_prefill_neon(const ferrule_attention_args* args, size_t begin, size_t end,
                                    void* scratch) {
  attend_prefill(*args, begin, end, scratch);
}

void ferrule_attention_decode_neon(const ferrule_attention_args* args, size_t begin, size_t end,
                                   void* scratch) {
  attend_decode(*args, begin, end, scratch);
}
