#include <math.h>

#include "kernels/declarations.h"
#include "simd/avx512.h"

#include "kernels/softmax/vector.h"

void ferrule_softmax_avx512(const ferrule_softmax_args* args, size_t begin, size_t end, void*) {
  softmax_rows(*args, begin, end);
}
