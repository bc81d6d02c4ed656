// What weights must be before they are packed. Loops that end early are no vectors: these look at everything
// and say at the end whether it was sound, since it nearly always is.
#include <string.h>

#include <algorithm>

#include "ops/linear_packed.h"

namespace ferrule::ops {

namespace {

uint32_t bits_at(const float* value) {
  uint32_t bits;
  memcpy(&bits, value, sizeof(bits));
  return bits;
}

bool all_finite(const float* values, size_t count) {
  constexpr int32_t kInfinity = 0x7F800000;
  int32_t largest = 0;  // of the values without their sign, in which order bits are as numbers
  for (size_t i = 0; i < count; ++i)
    largest = std::max(largest, static_cast<int32_t>(bits_at(values + i) & 0x7FFFFFFF));
  return largest < kInfinity;
}

bool bfloat16_holds(const float* values, size_t count) {
  uint32_t seen = 0;
  for (size_t i = 0; i < count; ++i) seen |= bits_at(values + i);
  return (seen & 0xFFFF) == 0;
}

// Whether of every four neighbouring values of a row at most two are other than 0.
template <typename Value>
bool is_sparse(const ferrule_linear_spec& spec, const Value* values) {
  for (size_t n = 0; n < spec.rows; ++n) {
    for (size_t k = 0, kept = 0; k < spec.depth; ++k) {
      if (k % 4 == 0) kept = 0;
      kept += values[n * spec.depth + k] != 0;
      if (kept > 2) return false;
    }
  }
  return true;
}

// Whether every code lies in [least, least + 2^bits).
bool all_within(const void* codes, size_t count, unsigned bits, int least) {
  const auto* code = static_cast<const uint8_t*>(codes);
  const auto offset = static_cast<uint8_t>(-least);
  uint8_t seen = 0;
  for (size_t i = 0; i < count; ++i) seen |= static_cast<uint8_t>(code[i] + offset);
  return seen >> bits == 0;
}

bool codes_fit(const ferrule_linear_spec& spec, const void* codes) {
  const size_t count = spec.rows * spec.depth;
  if (spec.weight == FERRULE_WEIGHT_AFFINE8) return true;
  if (spec.weight == FERRULE_WEIGHT_AFFINE4) return all_within(codes, count, 4, -8);
  return all_within(codes, count, static_cast<unsigned>(bits_of(spec.weight)), 0);
}

}  // namespace

ferrule_status check_weights(const ferrule_linear_spec& spec, const ferrule_panel_layout& layout,
                             const ferrule_linear_weights& weights) {
  if (weights.bias && !all_finite(weights.bias, spec.rows)) return FERRULE_BAD_VALUE;
  if (spec.weight == FERRULE_WEIGHT_F32) {
    if (!weights.values && spec.rows && spec.depth) return FERRULE_BAD_SHAPE;
    if (!all_finite(weights.values, spec.rows * spec.depth)) return FERRULE_BAD_VALUE;
    return spec.sparse24 && !is_sparse(spec, weights.values) ? FERRULE_BAD_VALUE : FERRULE_OK;
  }
  if (!weights.codes && spec.rows && spec.depth) return FERRULE_BAD_SHAPE;
  const bool lookup = is_lookup(spec.weight);
  if (spec.rows && (lookup ? !weights.table : !weights.scales)) return FERRULE_BAD_SHAPE;
  const size_t scales = spec.rows * (layout.groups ? layout.groups : 1);
  if (weights.scales && !all_finite(weights.scales, scales)) return FERRULE_BAD_VALUE;
  if (layout.groups && !bfloat16_holds(weights.scales, scales)) return FERRULE_BAD_VALUE;
  if (lookup && spec.rows) {
    const size_t palettes = spec.group ? spec.rows / spec.group : 1;
    if (!all_finite(weights.table, palettes << bits_of(spec.weight))) return FERRULE_BAD_VALUE;
  }
  if (spec.sparse24 && !is_sparse(spec, static_cast<const int8_t*>(weights.codes))) return FERRULE_BAD_VALUE;
  return codes_fit(spec, weights.codes) ? FERRULE_OK : FERRULE_BAD_VALUE;
}

}  // namespace ferrule::ops
