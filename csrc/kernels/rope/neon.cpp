#include "simd/neon.h"
#include "kernels/declarations.h"

#include "kernels/rope/vector.h"

void ferrule_rope_neon(const ferrule_rope_args* args, size_t begin, size_t end, void*) {
  turn_tokens(*args, begin, end);
}
