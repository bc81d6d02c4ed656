#include "simd/neon.h"
#include "kernels/declarations.h"

namespace {

inline int32x4_t spread_word(const uint8_t* p) {
  uint16_t word;
  memcpy(&word, p, sizeof(word));
  return vdupq_n_s32(word);
}

inline F32 widen_i4(const uint8_t* p) {
  const int32_t lift[] = {28, 24, 20, 16};
  return vcvtq_f32_s32(vshrq_n_s32(vshlq_s32(spread_word(p), vld1q_s32(lift)), 28));
}

// Codes in the low four bits of each lane; what lies above them is not looked at.
using Codes = uint32x4_t;

inline Codes read_codes4(const uint8_t* p) {
  const int32_t drop[] = {0, -4, -8, -12};
  return vreinterpretq_u32_s32(vshlq_s32(spread_word(p), vld1q_s32(drop)));
}

inline Codes read_codes2(const uint8_t* p) {
  const int32_t drop[] = {0, -2, -4, -6};
  return vreinterpretq_u32_s32(vshlq_s32(vdupq_n_s32(*p), vld1q_s32(drop)));
}

using Palette = uint8x16x4_t;  // 16 values, or 4 four times over, as bytes
inline Palette load_palette(const float* p) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(p);
  return {{vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
}
inline F32 look_up(Palette palette, Codes codes) {
  // Byte b of value c lies at 4 c + b.
  const uint32x4_t places =
      vmlaq_n_u32(vdupq_n_u32(0x03020100), vandq_u32(codes, vdupq_n_u32(15)), 0x04040404);
  return vreinterpretq_f32_u8(vqtbl4q_u8(palette, vreinterpretq_u8_u32(places)));
}

}  // namespace

#include "kernels/embedding/vector.h"

void ferrule_embedding_neon(const ferrule_embedding_args* args, size_t begin, size_t end, void*) {
  embedding_rows(*args, begin, end);
}
