// How AVX-512 makes float32 of codes: of one vector of columns, a doubleword of four bytes each (coded.h).
#ifndef FERRULE_KERNELS_GEMM_F32_DECODE_AVX512_H
#define FERRULE_KERNELS_GEMM_F32_DECODE_AVX512_H

namespace {

inline F32 multiply_add(F32 weights, float x, F32 sum) { return fma(weights, splat(x), sum); }

inline void keep_order() {}

constexpr size_t kFewRows = 4;  // at most, that decode in registers (coded.h)

using Bytes = __m512i;
inline Bytes load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }

struct Int8Codes {
  static constexpr size_t kSteps = 1;
  static constexpr float kFactor = 0x1p-24f;
  struct Table {};
  static Table read_table(const float*) { return {}; }
  template <size_t kStep>
  static F32 decode(Bytes bytes, Table) {
    return _mm512_cvtepi32_ps(_mm512_slli_epi32(bytes, 24));
  }
};

// A permutation looks at the low four bits of its indices alone.
struct Lookup4Codes {
  static constexpr size_t kSteps = 2;
  static constexpr float kFactor = 1;
  using Table = F32;
  static Table read_table(const float* palette) { return load(palette); }
  template <size_t kStep>
  static F32 decode(Bytes bytes, Table table) {
    return _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4 * kStep), table);
  }
};

struct Int4Codes : Lookup4Codes {
  static Table read_table(const float*) {
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
  }
};

// Four bits are the codes of two steps: one table reads the lower, the other the higher.
struct Lookup2Codes {
  static constexpr size_t kSteps = 4;
  static constexpr float kFactor = 1;
  struct Table {
    F32 lower, higher;
  };
  static Table read_table(const float* palette) {
    const F32 lower = _mm512_broadcast_f32x4(_mm_loadu_ps(palette));
    const Bytes places = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return {lower, _mm512_permutexvar_ps(places, lower)};
  }
  template <size_t kStep>
  static F32 decode(Bytes bytes, Table table) {
    return _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, kStep / 2 * 4),
                                 kStep % 2 ? table.higher : table.lower);
  }
};

// For 2:4 sparse weights: byte kByte of each doubleword, of which a permutation looks at the lowest two bits.
using Places = Bytes;
template <size_t kByte>
inline Places places_in(Bytes bytes) {
  return _mm512_srli_epi32(bytes, 8 * kByte);
}
inline Bytes shift_down_two(Bytes bytes) { return _mm512_srli_epi32(bytes, 2); }
inline F32 broadcast_four(const float* p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
inline F32 pick(F32 four, Places places) { return _mm512_permutevar_ps(four, places); }

}  // namespace

#endif
