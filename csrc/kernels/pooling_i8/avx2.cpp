#include <math.h>

#include "kernels/declarations.h"
#include "simd/avx2.h"

namespace {

using Bytes = __m256i;
constexpr size_t kBytes = 32;
inline Bytes load_bytes(const int8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store_bytes(int8_t* p, Bytes x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
inline Bytes splat_bytes(int8_t x) { return _mm256_set1_epi8(x); }
inline Bytes max_bytes(Bytes a, Bytes b) { return _mm256_max_epi8(a, b); }

}  // namespace

#include "kernels/pooling/taps.h"
#include "kernels/pooling_i8/vector.h"

void ferrule_pooling_i8_avx2(const ferrule_pooling_i8_args* args, size_t begin, size_t end, void*) {
  pooling_i8_rows(*args, begin, end);
}
