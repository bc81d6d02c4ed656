#include "simd/avx512.h"
#include "kernels/declarations.h"

#include "kernels/rational/vector.h"

void ferrule_rational_avx512(const ferrule_rational_args* args, size_t begin, size_t end, void*) {
  rational(*args, begin, end);
}
