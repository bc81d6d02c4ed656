// Packing of weights into panels, for every tile.
#ifndef FERRULE_OPS_PANELS_H
#define FERRULE_OPS_PANELS_H

#include "ferrule/gemm.h"
#include "ferrule/linear.h"
#include "ferrule/threads.h"

namespace ferrule::ops {

inline size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

// Bits of a code of Affine and Lookup weights; 32 for float32.
size_t bits_of(ferrule_weight_kind kind);
inline bool is_lookup(ferrule_weight_kind kind) {
  return kind == FERRULE_WEIGHT_LOOKUP4 || kind == FERRULE_WEIGHT_LOOKUP2;
}

constexpr size_t kSparseUnit = 32;  // k whose places share a doubleword

// Writes all panels of `rows` output features. The weights have been checked. Returns the largest rounding of
// a palette entry to int8, relative to the largest of its palette; 0 where none was rounded.
float pack_panels(const ferrule_linear_spec& spec, const ferrule_panel_layout& layout,
                  const ferrule_linear_weights& weights, uint8_t* panels, ferrule_pool* pool);

}  // namespace ferrule::ops

#endif
