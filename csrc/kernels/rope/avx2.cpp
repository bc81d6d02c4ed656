#include "simd/avx2.h"
#include "kernels/declarations.h"

#include "kernels/rope/vector.h"

void ferrule_rope_avx2(const ferrule_rope_args* args, size_t begin, size_t end, void*) {
  turn_tokens(*args, begin, end);
}
