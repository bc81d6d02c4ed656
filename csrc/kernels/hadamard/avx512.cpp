#include "simd/avx512.h"
#include "kernels/declarations.h"
#include "kernels/hadamard/paley.h"

namespace {

constexpr int kMostBits = 4;

// The lane whose number differs in one bit, plus this lane with the sign of that bit.
inline F32 transform_lanes(F32 v) {
  const F32 one = splat(1.0f), minus = splat(-1.0f);
  v = fma(v, _mm512_mask_blend_ps(0xAAAA, one, minus), _mm512_permute_ps(v, 0xB1));
  v = fma(v, _mm512_mask_blend_ps(0xCCCC, one, minus), _mm512_permute_ps(v, 0x4E));
  v = fma(v, _mm512_mask_blend_ps(0xF0F0, one, minus), _mm512_shuffle_f32x4(v, v, 0xB1));
  return fma(v, _mm512_mask_blend_ps(0xFF00, one, minus), _mm512_shuffle_f32x4(v, v, 0x4E));
}

}  // namespace

#include "kernels/hadamard/vector.h"

void ferrule_hadamard_avx512(const ferrule_hadamard_args* args, size_t begin, size_t end, void*) {
  hadamard_rows(*args, begin, end);
}
