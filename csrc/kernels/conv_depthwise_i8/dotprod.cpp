#include <math.h>
#include <string.h>

#include "kernels/conv_depthwise_i8/packed.h"
#include "kernels/declarations.h"
#include "simd/neon.h"

#include "simd/activation.h"

namespace {

using I32 = int32x4_t;
using Taps = int8x16_t;
using Quads = int8x16_t;
constexpr size_t kQuadBytes = 16;
constexpr bool kSignedInput = true;
constexpr size_t kTile = 8;

inline I32 splat_i32(int32_t x) { return vdupq_n_s32(x); }
inline I32 load_i32(const int32_t* p) { return vld1q_s32(p); }
inline I32 multiply(I32 a, I32 b) { return vmulq_s32(a, b); }
inline F32 to_float(I32 a) { return vcvtq_f32_s32(a); }
inline Taps load_taps(const int8_t* p) { return vld1q_s8(p); }
inline Quads load_quads(const char* p) { return vld1q_s8(reinterpret_cast<const int8_t*>(p)); }
inline I32 dot(I32 sums, Quads inputs, Taps taps) { return vdotq_s32(sums, inputs, taps); }

inline uint8x16_t load_codes(const uint8_t* p, size_t count, uint8x16_t flip) {
  uint8_t rest[16] = {};
  if (count < 16) p = static_cast<const uint8_t*>(memcpy(rest, p, count));
  return veorq_u8(vld1q_u8(p), flip);
}

inline void store_quads(char* at, const uint8_t* const sources[4], size_t count, uint8_t flip) {
  const uint8x16_t flips = vdupq_n_u8(flip);
  const uint8x16x2_t ab =
      vzipq_u8(load_codes(sources[0], count, flips), load_codes(sources[1], count, flips));
  const uint8x16x2_t cd =
      vzipq_u8(load_codes(sources[2], count, flips), load_codes(sources[3], count, flips));
  const uint16x8x2_t low = vzipq_u16(vreinterpretq_u16_u8(ab.val[0]), vreinterpretq_u16_u8(cd.val[0]));
  const uint16x8x2_t high = vzipq_u16(vreinterpretq_u16_u8(ab.val[1]), vreinterpretq_u16_u8(cd.val[1]));
  auto* to = reinterpret_cast<uint16_t*>(at);
  vst1q_u16(to, low.val[0]);
  vst1q_u16(to + 8, low.val[1]);
  vst1q_u16(to + 16, high.val[0]);
  vst1q_u16(to + 24, high.val[1]);
}

inline int16x4_t round_codes(F32 y, F32 highest) { return vqmovn_s32(vcvtnq_s32_f32(min(highest, y))); }

inline void store_codes(int8_t* output, size_t stride, const F32 (&y)[4], Bounds bounds, size_t outputs,
                        size_t count) {
  const int8x8_t low =
      vqmovn_s16(vcombine_s16(round_codes(y[0], bounds.highest), round_codes(y[1], bounds.highest)));
  const int8x8_t high =
      vqmovn_s16(vcombine_s16(round_codes(y[2], bounds.highest), round_codes(y[3], bounds.highest)));
  int8_t bytes[16];
  vst1q_s8(bytes, vmaxq_s8(vcombine_s8(low, high), vdupq_n_s8(static_cast<int8_t>(bounds.lowest))));
  for (size_t t = 0; t < 4 && t < outputs; ++t) {
    if (count == kLanes)
      memcpy(output + t * stride, bytes + t * kLanes, kLanes);
    else
      memcpy(output + t * stride, bytes + t * kLanes, count);
  }
}

}  // namespace

#include "kernels/conv_depthwise_i8/vector.h"

void ferrule_conv_depthwise_i8_dotprod(const ferrule_conv_depthwise_i8_args* args, size_t begin, size_t end,
                                       void* scratch) {
  convolve_depthwise_codes(*args, begin, end, scratch);
}
