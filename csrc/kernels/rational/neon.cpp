#include "simd/neon.h"
#include "kernels/declarations.h"

#include "kernels/rational/vector.h"

void ferrule_rational_neon(const ferrule_rational_args* args, size_t begin, size_t end, void*) {
  rational(*args, begin, end);
}
