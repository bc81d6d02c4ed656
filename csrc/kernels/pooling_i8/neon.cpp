#include <math.h>

#include "kernels/declarations.h"
#include "simd/neon.h"

namespace {

using Bytes = int8x16_t;
constexpr size_t kBytes = 16;
inline Bytes load_bytes(const int8_t* p) { return vld1q_s8(p); }
inline void store_bytes(int8_t* p, Bytes x) { vst1q_s8(p, x); }
inline Bytes splat_bytes(int8_t x) { return vdupq_n_s8(x); }
inline Bytes max_bytes(Bytes a, Bytes b) { return vmaxq_s8(a, b); }

}  // namespace

#include "kernels/pooling/taps.h"
#include "kernels/pooling_i8/vector.h"

void ferrule_pooling_i8_neon(const ferrule_pooling_i8_args* args, size_t begin, size_t end, void*) {
  pooling_i8_rows(*args, begin, end);
}
