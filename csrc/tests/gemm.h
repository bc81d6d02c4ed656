// What the tests of all gemm kernels share.
#ifndef FERRULE_TESTS_GEMM_H
#define FERRULE_TESTS_GEMM_H

#include "ferrule/gemm.h"
#include "ferrule/linear.h"
#include "tests/rig.h"

namespace ferrule::tests {

// Weights of a random codec, which own their memory.
struct DrawnWeights {
  std::vector<float> values, scales, table, bias;
  std::vector<int8_t> codes;
  ferrule_linear_weights weights() const;
};

// `plain`: scales of one, no bias and palettes of small integers, so that float32 sums are exact.
DrawnWeights draw_weights(Random& random, const ferrule_linear_spec& spec, bool plain);

// A product of random sizes for the kernel of `op` in rig.isa(), over weights of `kind`, against `scalar` on
// the same panels.
void test_gemm(Rig& rig, const char* op, ferrule_weight_kind kind, ferrule_gemm_fn* kernel,
               ferrule_gemm_fn* scalar);

}  // namespace ferrule::tests

#endif
