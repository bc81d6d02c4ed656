#include <math.h>
#include <string.h>

#include "kernels/declarations.h"
#include "simd/avx512.h"

#include "kernels/quantize_kv/layout.h"
#include "kernels/quantize_kv/vector.h"

void ferrule_quantize_kv_avx512(const ferrule_quantize_kv_args* args, size_t begin, size_t end, void*) {
  quantize_rows(*args, begin, end);
}
