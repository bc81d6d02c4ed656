// How NEON makes float32 of codes: of one vector of columns, a doubleword of four bytes each (coded.h).
#ifndef FERRULE_KERNELS_GEMM_F32_DECODE_NEON_H
#define FERRULE_KERNELS_GEMM_F32_DECODE_NEON_H

namespace {

inline F32 multiply_add(F32 weights, float x, F32 sum) { return vfmaq_n_f32(sum, weights, x); }

// The compiler may not move loads across: it would load the inputs of all rows before the first is used, and
// spill sums.
inline void keep_order() { __asm__ volatile("" ::: "memory"); }

constexpr size_t kFewRows = 2;  // at most, that decode in registers (coded.h)

using Bytes = uint32x4_t;
inline Bytes load_bytes(const uint8_t* p) { return vreinterpretq_u32_u8(vld1q_u8(p)); }

struct Int8Codes {
  static constexpr size_t kSteps = 1;
  static constexpr float kFactor = 1;
  struct Table {};
  static Table read_table(const float*) { return {}; }
  template <size_t kStep>
  static F32 decode(Bytes bytes, Table) {
    return vcvtq_n_f32_s32(vreinterpretq_s32_u32(vshlq_n_u32(bytes, 24)), 24);
  }
};

struct Int4Codes {
  static constexpr size_t kSteps = 2;
  static constexpr float kFactor = 1;
  struct Table {};
  static Table read_table(const float*) { return {}; }
  template <size_t kStep>
  static F32 decode(Bytes bytes, Table) {
    const Bytes high =
        kStep == 0 ? vshlq_n_u32(bytes, 28) : vandq_u32(vshlq_n_u32(bytes, 24), vdupq_n_u32(0xF0000000u));
    return vcvtq_n_f32_s32(vreinterpretq_s32_u32(high), 28);
  }
};

// The four bytes of the float32 at an index: 4 * index and the three that follow.
inline uint8x16_t places_of(Bytes indices) {
  return vreinterpretq_u8_u32(vmlaq_u32(vdupq_n_u32(0x03020100u), indices, vdupq_n_u32(0x04040404u)));
}

struct Lookup4Codes {
  static constexpr size_t kSteps = 2;
  static constexpr float kFactor = 1;
  using Table = uint8x16x4_t;
  static Table read_table(const float* palette) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(palette);
    return {{vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
  }
  template <size_t kStep>
  static F32 decode(Bytes bytes, const Table& table) {
    const Bytes shifted = kStep == 0 ? bytes : vshrq_n_u32(bytes, 4);
    return vreinterpretq_f32_u8(vqtbl4q_u8(table, places_of(vandq_u32(shifted, vdupq_n_u32(15)))));
  }
};

struct Lookup2Codes {
  static constexpr size_t kSteps = 4;
  static constexpr float kFactor = 1;
  using Table = uint8x16_t;
  static Table read_table(const float* palette) {
    return vld1q_u8(reinterpret_cast<const uint8_t*>(palette));
  }
  template <size_t kStep>
  static F32 decode(Bytes bytes, Table table) {
    Bytes shifted = bytes;
    if constexpr (kStep != 0) shifted = vshrq_n_u32(bytes, 2 * kStep);
    return vreinterpretq_f32_u8(vqtbl1q_u8(table, places_of(vandq_u32(shifted, vdupq_n_u32(3)))));
  }
};

// For 2:4 sparse weights: the lowest two bits of byte kByte of each doubleword.
using Places = uint8x16_t;
template <size_t kByte>
inline Places places_in(Bytes bytes) {
  Bytes shifted = bytes;
  if constexpr (kByte != 0) shifted = vshrq_n_u32(bytes, 8 * kByte);
  return places_of(vandq_u32(shifted, vdupq_n_u32(3)));
}
inline Bytes shift_down_two(Bytes bytes) { return vshrq_n_u32(bytes, 2); }
inline F32 broadcast_four(const float* p) { return load(p); }
inline F32 pick(F32 four, Places places) {
  return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(four), places));
}

}  // namespace

#endif
