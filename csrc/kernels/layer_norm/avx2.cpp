#include <math.h>

#include "kernels/declarations.h"
#include "simd/avx2.h"

#include "kernels/layer_norm/vector.h"

void ferrule_layer_norm_avx2(const ferrule_layer_norm_args* args, size_t begin, size_t end, void*) {
  layer_norm_rows(*args, begin, end);
}
