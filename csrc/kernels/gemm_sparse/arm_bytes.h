// Codes of 2:4 sparse products on ARM: inputs are int8 (FERRULE_GEMM_S8).
#ifndef FERRULE_KERNELS_GEMM_SPARSE_ARM_BYTES_H
#define FERRULE_KERNELS_GEMM_SPARSE_ARM_BYTES_H

namespace {

using Bytes = uint32x4_t;
inline Bytes load_bytes(const uint8_t* p) { return vreinterpretq_u32_u8(vld1q_u8(p)); }
inline Bytes shift_down_two(Bytes bytes) { return vshrq_n_u32(bytes, 2); }

// Indices into eight codes: of the first four k in the lower bytes, of the next in the higher.
inline Bytes choose(Bytes places) {
  return vorrq_u32(vandq_u32(places, vdupq_n_u32(0x03030303u)), vdupq_n_u32(0x04040000u));
}

inline Bytes broadcast_eight(const uint8_t* p) {
  uint64_t eight;
  memcpy(&eight, p, sizeof(eight));
  return vreinterpretq_u32_u64(vdupq_n_u64(eight));
}

inline Bytes pick_codes(Bytes eight, Bytes chosen) {
  return vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(eight), vreinterpretq_u8_u32(chosen)));
}

inline F32 take_zero_off(int32x4_t total, const int32_t* columns, int32_t zero) {
  return vcvtq_f32_s32(vmlsq_s32(total, vld1q_s32(columns), vdupq_n_s32(zero)));
}

}  // namespace

#endif
