#include "simd/avx512.h"
#include "kernels/declarations.h"

#include "kernels/activate/vector.h"

void ferrule_activate_avx512(const ferrule_activate_args* args, size_t begin, size_t end, void*) {
  activate_blocks(*args, begin, end);
}
