#include "simd/avx512.h"
#include "kernels/declarations.h"

namespace {

constexpr size_t kRounds = 4096;
constexpr size_t kChains = 24;  // more than latency times ports, fewer than registers

double multiply_add(size_t units) {
  F32 sums[kChains];
  for (size_t c = 0; c < kChains; ++c) sums[c] = splat(static_cast<float>(c));
  const F32 a = splat(0.999f), b = splat(0.5f);
  for (size_t i = 0; i < units * kRounds; ++i) {
#pragma GCC unroll 24
    for (size_t c = 0; c < kChains; ++c) sums[c] = fma(sums[c], a, b);
  }
  F32 total = zeros();
  for (size_t c = 0; c < kChains; ++c) total = add(total, sums[c]);
  return static_cast<double>(sum_lanes(total));
}

double multiply_codes(size_t units) {
  __m512i sums[kChains];
  for (size_t c = 0; c < kChains; ++c) sums[c] = _mm512_set1_epi32(static_cast<int>(c));
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-2);
  for (size_t i = 0; i < units * kRounds; ++i) {
#pragma GCC unroll 24
    for (size_t c = 0; c < kChains; ++c) sums[c] = dot_codes(sums[c], a, b);
  }
  __m512i total = _mm512_setzero_si512();
  for (size_t c = 0; c < kChains; ++c) total = _mm512_add_epi32(total, sums[c]);
  return _mm512_reduce_add_epi32(total);
}

double read(const ferrule_peak_args& args, size_t units) {
  const auto* memory = static_cast<const char*>(args.memory);
  __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                     _mm512_setzero_si512()};
  for (size_t unit = 0; unit < units; ++unit) {
    for (size_t i = 0; i < args.bytes; i += 1024) {
#pragma GCC unroll 16
      for (size_t j = 0; j < 16; ++j) {
        sums[j % 4] = _mm512_xor_si512(sums[j % 4], _mm512_load_si512(memory + i + 64 * j));
      }
    }
  }
  const __m512i total =
      _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3]));
  return _mm512_reduce_add_epi32(total);
}

}  // namespace

void ferrule_peak_avx512(const ferrule_peak_args* args, size_t begin, size_t end, void*) {
  const size_t units = end - begin;
  const auto rounds = static_cast<double>(units * kRounds * kChains);
  switch (args->kind) {
    case FERRULE_PEAK_FMA:
      *args->sink += multiply_add(units);
      *args->done += rounds * 16 * 2;
      break;
    case FERRULE_PEAK_DOT_I8:
      *args->sink += multiply_codes(units);
      *args->done += rounds * 64 * 2;
      break;
    case FERRULE_PEAK_DOT_BF16:
      break;
    case FERRULE_PEAK_READ:
      *args->sink += read(*args, units);
      *args->done += static_cast<double>(units) * static_cast<double>(args->bytes);
      break;
  }
}
