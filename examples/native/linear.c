/* A linear layer with int8 weights, from C: pack once, run on a pool of threads, compare with plain float sums.
 *
 *   cmake -S . -B build-app -DFERRULE_PYTHON=OFF -DFERRULE_TESTS=ON
 *   cmake --build build-app --target ferrule_example && build-app/ferrule_example
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ferrule/arena.h"
#include "ferrule/dispatch.h"
#include "ferrule/kernels.h"

enum { kTokens = 16, kDepth = 384, kFeatures = 1536 };

static float weights[kFeatures][kDepth], input[kTokens][kDepth], output[kTokens][kFeatures];
static int8_t codes[kFeatures][kDepth];
static float scales[kFeatures];

static void require(ferrule_status status) {
  if (!status) return;
  fprintf(stderr, "%s: %s\n", ferrule_status_code(status), ferrule_status_text(status));
  exit(1);
}

static void fill(float* values, size_t count) {
  for (size_t i = 0; i < count; ++i) values[i] = sinf(0.37f * (float)i) * cosf(0.011f * (float)i);
}

/* Int8 codes with one scale for each output feature. */
static void quantize_weights(void) {
  for (size_t n = 0; n < kFeatures; ++n) {
    float largest = 0;
    for (size_t k = 0; k < kDepth; ++k) largest = fmaxf(largest, fabsf(weights[n][k]));
    scales[n] = largest / 127;
    for (size_t k = 0; k < kDepth; ++k) codes[n][k] = (int8_t)lrintf(weights[n][k] / scales[n]);
  }
}

/* Cosine of the layer's output and what it should be: GELU of float products. */
static double compare(void) {
  double both = 0, ours = 0, theirs = 0;
  for (size_t t = 0; t < kTokens; ++t) {
    for (size_t n = 0; n < kFeatures; ++n) {
      double sum = 0;
      for (size_t k = 0; k < kDepth; ++k) sum += (double)input[t][k] * weights[n][k];
      const double exact = 0.5 * sum * (1 + erf(sum / sqrt(2.0))), got = output[t][n];
      both += exact * got;
      ours += got * got;
      theirs += exact * exact;
    }
  }
  return both / sqrt(ours * theirs);
}

int main(void) {
  fill(&weights[0][0], (size_t)kFeatures * kDepth);
  fill(&input[0][0], (size_t)kTokens * kDepth);
  quantize_weights();

  /* What is packed for one instruction set may be kept in a file: here, for the strongest that this CPU has. */
  ferrule_linear_spec spec = {0};
  spec.weight = FERRULE_WEIGHT_AFFINE8;
  spec.input = FERRULE_INPUT_I8_DYNAMIC;
  spec.rows = kFeatures;
  spec.depth = kDepth;
  ferrule_linear_weights layer = {0};
  layer.codes = codes;
  layer.scales = scales;
  size_t bytes = 0;
  ferrule_arena packed, scratch;
  require(ferrule_linear_packed_size(&spec, NULL, &bytes));
  if (!ferrule_arena_create(&packed, bytes)) return 1;
  require(ferrule_linear_pack(&spec, NULL, &layer, packed.memory));

  ferrule_pool* pool = ferrule_pool_create(2);
  ferrule_linear_args args = {0};
  args.packed = packed.memory;
  args.packed_bytes = bytes;
  args.input = &input[0][0];
  args.input_stride = kDepth;
  args.output = output;
  args.output_stride = kFeatures;
  args.m = kTokens;
  args.epilogue.activation = FERRULE_ACTIVATION_GELU;
  if (!ferrule_arena_create(&scratch, ferrule_linear_scratch(args.packed, bytes, args.m, 2))) return 1;
  require(ferrule_linear(&args, scratch.memory, pool));
  args.input_stride = 1; /* rows that overlap: refused, and nothing is written */
  const ferrule_status refused = ferrule_linear(&args, scratch.memory, pool);

  ferrule_linear_info info;
  require(ferrule_linear_check(packed.memory, bytes, 1, &info));
  const double cosine = compare();
  printf("%s on %s, %zu bytes packed: cosine %.5f; %s for rows that overlap\n", info.op, info.isa, info.bytes,
         cosine, ferrule_status_code(refused));
  ferrule_pool_destroy(pool);
  ferrule_arena_destroy(&scratch);
  ferrule_arena_destroy(&packed);
  return cosine > 0.999 && refused == FERRULE_BAD_LAYOUT ? 0 : 1;
}
