#include <math.h>

#include "kernels/declarations.h"
#include "simd/avx512.h"

namespace {

using Bytes = __m512i;
constexpr size_t kBytes = 64;
inline Bytes load_bytes(const int8_t* p) { return _mm512_loadu_si512(p); }
inline void store_bytes(int8_t* p, Bytes x) { _mm512_storeu_si512(p, x); }
inline Bytes splat_bytes(int8_t x) { return _mm512_set1_epi8(x); }
inline Bytes max_bytes(Bytes a, Bytes b) { return _mm512_max_epi8(a, b); }

}  // namespace

#include "kernels/pooling/taps.h"
#include "kernels/pooling_i8/vector.h"

void ferrule_pooling_i8_avx512(const ferrule_pooling_i8_args* args, size_t begin, size_t end, void*) {
  pooling_i8_rows(*args, begin, end);
}
