#include <math.h>

#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/rms_norm/vector.h"

void ferrule_rms_norm_neon(const ferrule_rms_norm_args* args, size_t begin, size_t end, void*) {
  rms_norm_rows(*args, begin, end);
}
