#include "ferrule/dispatch.h"
#include "kernels/declarations.h"
#include "simd/avx512.h"

namespace {

constexpr size_t kRounds = 4096;
constexpr size_t kChains = 24;  // as many as avx512.cpp has of its multiply-adds

// vdpbf16ps: two products a float32 sum.
double multiply_halves(size_t units) {
  F32 sums[kChains];
  for (size_t c = 0; c < kChains; ++c) sums[c] = splat(static_cast<float>(c));
  const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3F7F3F7F));  // 0.996 twice
  const auto b = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3F003F00));  // 0.5 twice
  for (size_t i = 0; i < units * kRounds; ++i) {
#pragma GCC unroll 24
    for (size_t c = 0; c < kChains; ++c) sums[c] = _mm512_dpbf16_ps(sums[c], a, b);
  }
  F32 total = zeros();
  for (size_t c = 0; c < kChains; ++c) total = add(total, sums[c]);
  return static_cast<double>(sum_lanes(total));
}

}  // namespace

void ferrule_peak_avx512_bf16(const ferrule_peak_args* args, size_t begin, size_t end, void* scratch) {
  if (args->kind != FERRULE_PEAK_DOT_BF16) {
    const ferrule_kernel* weaker = ferrule_find_kernel("peak", "avx512");
    return reinterpret_cast<ferrule_peak_fn*>(weaker->function)(args, begin, end, scratch);
  }
  const size_t units = end - begin;
  *args->sink += multiply_halves(units);
  *args->done += static_cast<double>(units * kRounds * kChains) * 32 * 2;
}
