#include "kernels/declarations.h"
#include "kernels/hadamard/paley.h"

namespace {

// x[0..count) by Sylvester's matrix.
void transform(float* x, size_t count) {
  for (size_t span = 1; span < count; span *= 2) {
    for (size_t i = 0; i < count; ++i) {
      if (i & span) continue;
      const float a = x[i], b = x[i + span];
      x[i] = a + b;
      x[i + span] = a - b;
    }
  }
}

// Each column of x [kOrder][count] by Paley's matrix.
template <int kOrder>
void mix(float* x, size_t count, bool transposed) {
  for (size_t i = 0; i < count; ++i) {
    double sums[kOrder] = {};
    for (int row = 0; row < kOrder; ++row) {
      for (int column = 0; column < kOrder; ++column) {
        const bool minus = kPaley<kOrder>[transposed].signs[row][column / 4] >> column % 4 & 1;
        const double value = x[static_cast<size_t>(column) * count + i];
        sums[row] += minus ? -value : value;
      }
    }
    for (int row = 0; row < kOrder; ++row)
      x[static_cast<size_t>(row) * count + i] = static_cast<float>(sums[row]);
  }
}

}  // namespace

// The definition that every other hadamard kernel is held to.
void ferrule_hadamard_scalar(const ferrule_hadamard_args* args, size_t begin, size_t end, void*) {
  if (args->width == 0) return;
  const size_t order = order_of(args->width), count = args->width / order;
  const bool transposed = args->transposed != 0;
  for (size_t r = begin; r < end; ++r) {
    const float* input = args->input + r * args->input_stride;
    float* output = args->output + r * args->output_stride;
    for (size_t i = 0; i < args->width; ++i) output[i] = args->scale * input[i];
    for (size_t chunk = 0; chunk < order; ++chunk) transform(output + chunk * count, count);
    if (order == 12) mix<12>(output, count, transposed);
    if (order == 20) mix<20>(output, count, transposed);
    if (order == 28) mix<28>(output, count, transposed);
    if (order == 36) mix<36>(output, count, transposed);
    if (order == 60) mix<60>(output, count, transposed);
  }
}
