#include <math.h>

#include "kernels/declarations.h"
#include "simd/avx512.h"

#include "simd/activation.h"

#include "kernels/conv_depthwise/vector.h"

void ferrule_conv_depthwise_avx512(const ferrule_conv_depthwise_args* args, size_t begin, size_t end, void*) {
  convolve_depthwise(*args, begin, end);
}
