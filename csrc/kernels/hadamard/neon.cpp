#include "simd/neon.h"
#include "kernels/declarations.h"
#include "kernels/hadamard/paley.h"

namespace {

constexpr int kMostBits = 4;

// The lane whose number differs in one bit, plus this lane with the sign of that bit.
inline F32 transform_lanes(F32 v) {
  const float first[] = {1, -1, 1, -1}, second[] = {1, 1, -1, -1};
  v = fma(v, load(first), vrev64q_f32(v));
  return fma(v, load(second), vextq_f32(v, v, 2));
}

}  // namespace

#include "kernels/hadamard/vector.h"

void ferrule_hadamard_neon(const ferrule_hadamard_args* args, size_t begin, size_t end, void*) {
  hadamard_rows(*args, begin, end);
}
