#include <math.h>

#include "kernels/declarations.h"
#include "simd/avx512.h"

#include "kernels/mean_tokens/vector.h"

void ferrule_mean_tokens_avx512(const ferrule_mean_tokens_args* args, size_t begin, size_t end, void*) {
  mean_tokens_texts(*args, begin, end);
}
