// How AVX2 makes float32 of codes: of one vector of columns, a doubleword of four bytes each (coded.h).
#ifndef FERRULE_KERNELS_GEMM_F32_DECODE_AVX2_H
#define FERRULE_KERNELS_GEMM_F32_DECODE_AVX2_H

namespace {

inline F32 multiply_add(F32 weights, float x, F32 sum) { return fma(weights, splat(x), sum); }

inline void keep_order() {}

constexpr size_t kFewRows = 4;  // at most, that decode in registers (coded.h)

using Bytes = __m256i;
inline Bytes load_bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

struct Int8Codes {
  static constexpr size_t kSteps = 1;
  static constexpr float kFactor = 0x1p-24f;
  struct Table {};
  static Table read_table(const float*) { return {}; }
  template <size_t kStep>
  static F32 decode(Bytes bytes, Table) {
    return _mm256_cvtepi32_ps(_mm256_slli_epi32(bytes, 24));
  }
};

struct Int4Codes {
  static constexpr size_t kSteps = 2;
  static constexpr float kFactor = 0x1p-28f;
  struct Table {};
  static Table read_table(const float*) { return {}; }
  template <size_t kStep>
  static F32 decode(Bytes bytes, Table) {
    const Bytes high = _mm256_slli_epi32(bytes, kStep == 0 ? 28 : 24);
    return _mm256_cvtepi32_ps(
        kStep == 0 ? high : _mm256_and_si256(high, _mm256_set1_epi32(static_cast<int>(0xF0000000))));
  }
};

// A permutation looks at the low three bits of its indices; the fourth chooses between two of them.
struct Lookup4Codes {
  static constexpr size_t kSteps = 2;
  static constexpr float kFactor = 1;
  struct Table {
    F32 lower, upper;
  };
  static Table read_table(const float* palette) { return {load(palette), load(palette + 8)}; }
  template <size_t kStep>
  static F32 decode(Bytes bytes, Table table) {
    const Bytes codes = _mm256_srli_epi32(bytes, 4 * kStep);
    const F32 lower = _mm256_permutevar8x32_ps(table.lower, codes),
              upper = _mm256_permutevar8x32_ps(table.upper, codes);
    return _mm256_blendv_ps(lower, upper, _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28)));
  }
};

struct Lookup2Codes {
  static constexpr size_t kSteps = 4;
  static constexpr float kFactor = 1;
  using Table = F32;  // twice the palette, so that the third bit of an index does not matter
  static Table read_table(const float* palette) {
    return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(palette));
  }
  template <size_t kStep>
  static F32 decode(Bytes bytes, Table table) {
    return _mm256_permutevar8x32_ps(table, _mm256_srli_epi32(bytes, 2 * kStep));
  }
};

// For 2:4 sparse weights: byte kByte of each doubleword, of which a permutation looks at the lowest two bits.
using Places = Bytes;
template <size_t kByte>
inline Places places_in(Bytes bytes) {
  return _mm256_srli_epi32(bytes, 8 * kByte);
}
inline Bytes shift_down_two(Bytes bytes) { return _mm256_srli_epi32(bytes, 2); }
inline F32 broadcast_four(const float* p) { return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p)); }
inline F32 pick(F32 four, Places places) { return _mm256_permutevar_ps(four, places); }

}  // namespace

#endif
