#include "simd/avx2.h"
#include "kernels/declarations.h"
#include "kernels/hadamard/paley.h"

namespace {

constexpr int kMostBits = 3;

// The lane whose number differs in one bit, plus this lane with the sign of that bit.
inline F32 transform_lanes(F32 v) {
  v = fma(v, _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1), _mm256_permute_ps(v, 0xB1));
  v = fma(v, _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1), _mm256_permute_ps(v, 0x4E));
  return fma(v, _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1), _mm256_permute2f128_ps(v, v, 0x01));
}

}  // namespace

#include "kernels/hadamard/vector.h"

void ferrule_hadamard_avx2(const ferrule_hadamard_args* args, size_t begin, size_t end, void*) {
  hadamard_rows(*args, begin, end);
}
