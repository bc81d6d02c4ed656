// How the gemm kernels of ARM unpack 16 bytes of codes (ferrule_panel_layout) into kSteps vectors of int8
// weights, one for each step that shares the bytes. `table` is the palette of these columns.
#ifndef FERRULE_KERNELS_GEMM_ARM_WEIGHTS_H
#define FERRULE_KERNELS_GEMM_ARM_WEIGHTS_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

namespace {

struct Codes8 {
  static constexpr size_t kSteps = 1;
  static constexpr int kShift = 0;
  static constexpr bool kLooksUp = false;
  static void unpack(uint8x16_t bytes, int8x16_t, int8x16_t (&weights)[kSteps]) {
    weights[0] = vreinterpretq_s8_u8(bytes);
  }
};

// Weights come out times 16, which spares moving the nibbles down; sums are divided again, exactly.
struct Codes4 {
  static constexpr size_t kSteps = 2;
  static constexpr int kShift = 4;
  static constexpr bool kLooksUp = false;
  static void unpack(uint8x16_t bytes, int8x16_t, int8x16_t (&weights)[kSteps]) {
    weights[0] = vreinterpretq_s8_u8(vshlq_n_u8(bytes, 4));
    weights[1] = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(0xF0)));
  }
};

struct Lookup4 {
  static constexpr size_t kSteps = 2;
  static constexpr int kShift = 0;
  static constexpr bool kLooksUp = true;
  static void unpack(uint8x16_t bytes, int8x16_t table, int8x16_t (&weights)[kSteps]) {
    weights[0] = vqtbl1q_s8(table, vandq_u8(bytes, vdupq_n_u8(0x0F)));
    weights[1] = vqtbl1q_s8(table, vshrq_n_u8(bytes, 4));
  }
};

// The table holds its four entries four times over, so that the two bits above an index do not matter.
struct Lookup2 {
  static constexpr size_t kSteps = 4;
  static constexpr int kShift = 0;
  static constexpr bool kLooksUp = true;
  static void unpack(uint8x16_t bytes, int8x16_t table, int8x16_t (&weights)[kSteps]) {
    const uint8x16_t nibble = vdupq_n_u8(0x0F);
    weights[0] = vqtbl1q_s8(table, vandq_u8(bytes, nibble));
    weights[1] = vqtbl1q_s8(table, vandq_u8(vshrq_n_u8(bytes, 2), nibble));
    weights[2] = vqtbl1q_s8(table, vshrq_n_u8(bytes, 4));
    weights[3] = vqtbl1q_s8(table, vshrq_n_u8(bytes, 6));
  }
};

// The int8 weights of a whole panel, as gemm_i8 would have them, for rows that are many enough to use them
// again. kVectors: of 16 bytes in a step of all columns.
template <typename Weights, size_t kVectors>
void unpack_panel(const uint8_t* codes, const int8_t* tables, size_t steps, int8_t* weights) {
  int8x16_t table[kVectors] = {};
  if (Weights::kLooksUp) {
    for (size_t v = 0; v < kVectors; ++v) table[v] = vld1q_s8(tables + v * 16);
  }
  for (size_t step = 0; step < steps; step += Weights::kSteps) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      int8x16_t unpacked[Weights::kSteps];
      Weights::unpack(vld1q_u8(codes), table[v], unpacked);
      codes += 16;
#pragma GCC unroll 4
      for (size_t s = 0; s < Weights::kSteps; ++s) vst1q_s8(weights + (s * kVectors + v) * 16, unpacked[s]);
    }
    weights += Weights::kSteps * kVectors * 16;
  }
}

}  // namespace

#endif
