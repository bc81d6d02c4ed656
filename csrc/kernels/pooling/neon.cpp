#include <math.h>

#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/pooling/taps.h"
#include "kernels/pooling/vector.h"

void ferrule_pooling_neon(const ferrule_pooling_args* args, size_t begin, size_t end, void*) {
  pooling_rows(*args, begin, end);
}
