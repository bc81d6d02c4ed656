#include <math.h>

#include "kernels/declarations.h"

#include "kernels/quantize_kv/layout.h"

// The definition that the other quantize_kv kernels are held to. It works in float32, as they do: a code must
// not depend on the instruction set.
void ferrule_quantize_kv_scalar(const ferrule_quantize_kv_args* args, size_t begin, size_t end, void*) {
  const KvCodes codes = code_range(*args);
  for (size_t unit = begin; unit < end; ++unit) {
    const KvRow row = locate_row(*args, unit);
    for (size_t j = 0; j < codes.plane; ++j) row.codes[j] = 0;
    for (size_t first = 0, g = 0; first < args->head_size; first += codes.group, ++g) {
      const size_t last = first + codes.group < args->head_size ? first + codes.group : args->head_size;
      float low = row.input[first], high = low;
      bool has_nan = false;
      for (size_t c = first; c < last; ++c) {
        low = row.input[c] < low ? row.input[c] : low;
        high = row.input[c] > high ? row.input[c] : high;
        has_nan |= row.input[c] != row.input[c];
      }
      const KvStep step = choose_step(*args, codes, low, high, has_nan);
      row.scales[g] = step.scale;
      if (row.offsets) row.offsets[g] = step.offset;
      for (size_t c = first; c < last; ++c) {
        const float x = step.scale > 0 ? (row.input[c] - step.offset) / step.scale : codes.lowest;
        const float bounded = x < codes.highest ? (x > codes.lowest ? x : codes.lowest) : codes.highest;
        put_code(row, codes, c, bounded);
      }
    }
  }
}
