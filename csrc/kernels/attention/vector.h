// Attention over the names of simd/README.md and, from the file of each instruction set, kTileRows x
// kTileVectors (the tile that fits its registers), kDotVectors, kFoldLevels, fold, key_of_leaf, transpose,
// load_signed, load_unsigned, low_bits_to_exponent, mul_unless, in_register and kLaneNumbers.

#include "kernels/attention/decode.h"
#include "kernels/attention/prefill.h"
