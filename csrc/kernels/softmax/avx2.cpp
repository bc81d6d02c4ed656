#include <math.h>

#include "kernels/declarations.h"
#include "simd/avx2.h"

#include "kernels/softmax/vector.h"

void ferrule_softmax_avx2(const ferrule_softmax_args* args, size_t begin, size_t end, void*) {
  softmax_rows(*args, begin, end);
}
