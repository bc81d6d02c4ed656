#include "simd/avx2.h"
#include "kernels/declarations.h"

namespace {

constexpr size_t kRounds = 4096;
constexpr size_t kChains = 12;  // more than latency times ports, fewer than registers

double multiply_add(size_t units) {
  F32 sums[kChains];
  for (size_t c = 0; c < kChains; ++c) sums[c] = splat(static_cast<float>(c));
  const F32 a = splat(0.999f), b = splat(0.5f);
  for (size_t i = 0; i < units * kRounds; ++i) {
#pragma GCC unroll 12
    for (size_t c = 0; c < kChains; ++c) sums[c] = fma(sums[c], a, b);
  }
  F32 total = zeros();
  for (size_t c = 0; c < kChains; ++c) total = add(total, sums[c]);
  return static_cast<double>(sum_lanes(total));
}

// vpmaddwd on codes widened to int16: 16 exact products an instruction, and one to add them up.
double multiply_codes(size_t units) {
  __m256i sums[kChains];
  for (size_t c = 0; c < kChains; ++c) sums[c] = _mm256_set1_epi32(static_cast<int>(c));
  const __m256i a = _mm256_set1_epi16(3);
  for (size_t i = 0; i < units * kRounds; ++i) {
#pragma GCC unroll 12
    for (size_t c = 0; c < kChains; ++c) sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(sums[c], a));
  }
  __m256i total = _mm256_setzero_si256();
  for (size_t c = 0; c < kChains; ++c) total = _mm256_add_epi32(total, sums[c]);
  return _mm256_extract_epi32(total, 0);
}

double read(const ferrule_peak_args& args, size_t units) {
  const auto* memory = static_cast<const char*>(args.memory);
  __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                     _mm256_setzero_si256()};
  for (size_t unit = 0; unit < units; ++unit) {
    for (size_t i = 0; i < args.bytes; i += 512) {
#pragma GCC unroll 16
      for (size_t j = 0; j < 16; ++j) {
        const auto* at = reinterpret_cast<const __m256i*>(memory + i + 32 * j);
        sums[j % 4] = _mm256_xor_si256(sums[j % 4], _mm256_load_si256(at));
      }
    }
  }
  const __m256i total =
      _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  return _mm256_extract_epi32(total, 0);
}

}  // namespace

void ferrule_peak_avx2(const ferrule_peak_args* args, size_t begin, size_t end, void*) {
  const size_t units = end - begin;
  const auto rounds = static_cast<double>(units * kRounds * kChains);
  switch (args->kind) {
    case FERRULE_PEAK_FMA:
      *args->sink += multiply_add(units);
      *args->done += rounds * 8 * 2;
      break;
    case FERRULE_PEAK_DOT_I8:
      *args->sink += multiply_codes(units);
      *args->done += rounds * 16 * 2;
      break;
    case FERRULE_PEAK_DOT_BF16:
      break;
    case FERRULE_PEAK_READ:
      *args->sink += read(*args, units);
      *args->done += static_cast<double>(units) * static_cast<double>(args->bytes);
      break;
  }
}
