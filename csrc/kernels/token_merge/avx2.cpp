#include "simd/avx2.h"
#include "kernels/declarations.h"

#include "kernels/token_merge/part.h"
#include "kernels/token_merge/vector.h"

void ferrule_token_merge_avx2(const ferrule_token_merge_args* args, size_t begin, size_t end, void*) {
  token_merge(*args, begin, end);
}
