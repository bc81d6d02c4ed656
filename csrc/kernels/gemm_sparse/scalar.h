// Reading of 2:4 sparse panels (ferrule/gemm.h), for the scalar kernels.
#include "kernels/gemm/scalar.h"

namespace {

// Calls body(k, offset of the value, counted in values) for what is kept of a column.
template <typename Body>
void for_kept(const ferrule_panel_layout& layout, const uint8_t* codes, size_t column, size_t value_bytes,
              Body body) {
  const size_t unit_bytes = layout.columns * (4 + 16 * value_bytes);
  for (size_t unit = 0; unit < layout.padded / 32; ++unit) {
    const uint8_t* places = codes + unit * unit_bytes + column * 4;
    const uint8_t* values = codes + unit * unit_bytes + layout.columns * 4;
    for (size_t i = 0; i < 16; ++i) {
      const size_t k = 32 * unit + i / 2 * 4 + (places[i % 4] >> (i / 4 * 2) & 3);
      if (k < layout.depth) body(k, values, i);
    }
  }
}

}  // namespace
