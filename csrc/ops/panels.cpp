#include "ops/panels.h"

#include <math.h>
#include <string.h>

#include <algorithm>

#include "ferrule/arena.h"
#include "ops/run.h"

namespace {

using ferrule::ops::is_lookup;
using ferrule::ops::round_up;

constexpr size_t kSparseUnit = 32;  // k whose places share a doubleword

struct Tile {
  const char* op;
  const char* isa;
  size_t columns, step, palette, bits;
  ferrule_gemm_input input;
};

const Tile kTiles[] = {
#define FERRULE_TILE(op, isa, columns, step, palette, bits, input) \
  {#op, #isa, columns, step, palette, bits, FERRULE_GEMM_##input},
#include "kernels/tiles.inc"
#undef FERRULE_TILE
};

const Tile* find_tile(const char* op, const char* isa) {
  for (const Tile& tile : kTiles) {
    if (strcmp(tile.op, op) == 0 && strcmp(tile.isa, isa) == 0) return &tile;
  }
  return nullptr;
}

bool is_sparse(const char* op) { return strstr(op, "_sparse") != nullptr; }

bool reads_palettes(const char* op) { return strstr(op, "_lut") != nullptr; }

size_t table_bytes(const ferrule_panel_layout& layout) {
  const size_t entry_bytes = layout.input == FERRULE_GEMM_F32 ? sizeof(float) << layout.bits : 16;
  return layout.columns / layout.palette * entry_bytes;
}

// One panel being written: column c is output feature first + c.
struct Writer {
  const ferrule_linear_spec& spec;
  const ferrule_panel_layout& layout;
  const ferrule_linear_weights& weights;
  uint8_t* panel;
  size_t first, count;

  template <typename T>
  T* section(size_t offset) const {
    return reinterpret_cast<T*>(panel + offset);
  }

  void write_floats() const {
    for (size_t c = 0; c < count; ++c) {
      const float* row = weights.values + (first + c) * layout.depth;
      float* to = section<float>(0) + c * layout.step;
      for (size_t k = 0; k < layout.depth; k += layout.step, to += layout.columns * layout.step)
        memcpy(to, row + k, std::min(layout.step, layout.depth - k) * sizeof(float));
    }
  }

  void write_codes() const {
    const size_t per_byte = 8 / layout.bits;
    const auto mask = static_cast<uint8_t>((1u << layout.bits) - 1);
    for (size_t c = 0; c < count; ++c) {
      const auto* row = static_cast<const uint8_t*>(weights.codes) + (first + c) * layout.depth;
      uint8_t* to = panel + c * layout.step;
      for (size_t k = 0, part = 0; k < layout.depth; k += layout.step) {
        const size_t codes = std::min(layout.step, layout.depth - k);
        for (size_t i = 0; i < codes; ++i)
          to[i] = static_cast<uint8_t>(to[i] | (row[k + i] & mask) << (part * layout.bits));
        if (++part < per_byte) continue;
        part = 0;
        to += layout.columns * layout.step;
      }
    }
  }

  // `values` of [rows][depth], as many bits each as the codes of the layout. Where fewer than two of four are
  // not zero, zeros are kept as well.
  template <typename Value>
  void write_kept(const Value* values) const {
    const size_t unit_bytes = layout.columns * (sizeof(uint32_t) + kSparseUnit / 2 * sizeof(Value));
    for (size_t c = 0; c < count; ++c) {
      const Value* row = values + (first + c) * layout.depth;
      for (size_t k = 0, kept = 0; k < layout.depth; ++k) {
        if (k % 4 == 0) kept = 0;
        if (row[k] == 0) continue;
        uint8_t* unit = panel + k / kSparseUnit * unit_bytes;
        const size_t i = k % kSparseUnit / 4 * 2 + kept++, p = i / 4, j = i % 4;
        uint8_t& place = unit[c * sizeof(uint32_t) + j];
        place = static_cast<uint8_t>(place | (k % 4) << (2 * p));
        auto* kept_values = reinterpret_cast<Value*>(unit + layout.columns * sizeof(uint32_t));
        kept_values[sizeof(Value) == 1 ? (p * layout.columns + c) * 4 + j : i * layout.columns + c] = row[k];
      }
    }
  }

  void write_affine_columns() const {
    const size_t groups = layout.groups ? layout.groups : 1,
                 group = layout.groups ? layout.group : layout.depth;
    for (size_t c = 0; c < count; ++c) {
      const size_t n = first + c;
      const auto* row = static_cast<const int8_t*>(weights.codes) + n * layout.depth;
      const float* scales = weights.scales + n * groups;
      double scaled = 0;
      int32_t plain = 0;
      for (size_t g = 0, k = 0; k < layout.depth; ++g) {
        int32_t sum = 0;
        for (const size_t end = std::min(k + group, layout.depth); k < end; ++k) sum += row[k];
        plain += sum;
        scaled += static_cast<double>(scales[g]) * sum;
      }
      section<float>(layout.scales)[c] = layout.groups ? 1 : scales[0];
      if (layout.groups)
        section<float>(layout.sums)[c] = static_cast<float>(scaled);
      else
        section<int32_t>(layout.sums)[c] = plain;
      for (size_t g = 0; g < layout.groups; ++g) {
        uint32_t bits;
        memcpy(&bits, &scales[g], sizeof(bits));
        section<uint16_t>(layout.group_scales)[g * layout.columns + c] = static_cast<uint16_t>(bits >> 16);
      }
    }
  }

  const float* palette_of(size_t n) const {
    return weights.table + (spec.group ? n / spec.group : 0) * (size_t{1} << layout.bits);
  }

  void write_float_palettes() const {
    const size_t entries = size_t{1} << layout.bits;
    for (size_t c = 0; c < count; ++c) {
      section<float>(layout.scales)[c] = weights.scales ? weights.scales[first + c] : 1;
      float* palette = section<float>(layout.tables) + c / layout.palette * entries;
      memcpy(palette, palette_of(first + c), entries * sizeof(float));
    }
  }

  float write_rounded_palettes() const {
    const size_t entries = size_t{1} << layout.bits;
    float worst = 0;
    for (size_t c = 0; c < count; ++c) {
      const float* palette = palette_of(first + c);
      float largest = 0;
      for (size_t i = 0; i < entries; ++i) largest = fmaxf(largest, fabsf(palette[i]));
      auto* rounded = section<int8_t>(layout.tables) + c / layout.palette * 16;
      for (size_t i = 0; i < 16 && largest > 0; ++i) {
        const double exact = static_cast<double>(palette[i % entries]) / largest * 127;
        rounded[i] = static_cast<int8_t>(rint(exact));
        worst = fmaxf(worst, static_cast<float>(fabs(exact - rounded[i]) / 127));
      }
      const auto* row = static_cast<const uint8_t*>(weights.codes) + (first + c) * layout.depth;
      int32_t sum = 0;
      for (size_t k = 0; k < layout.depth; ++k) sum += rounded[row[k]];
      section<int32_t>(layout.sums)[c] = sum;
      const float scale = weights.scales ? weights.scales[first + c] : 1;
      section<float>(layout.scales)[c] = static_cast<float>(static_cast<double>(scale) * largest / 127);
    }
    return worst;
  }
};

}  // namespace

size_t ferrule::ops::bits_of(ferrule_weight_kind kind) {
  switch (kind) {
    case FERRULE_WEIGHT_F32:
      return 32;
    case FERRULE_WEIGHT_AFFINE8:
      return 8;
    case FERRULE_WEIGHT_AFFINE4:
    case FERRULE_WEIGHT_LOOKUP4:
      return 4;
    case FERRULE_WEIGHT_LOOKUP2:
      return 2;
  }
  return 0;
}

ferrule_status ferrule_lay_out_panels(const char* op, const char* isa, size_t depth, size_t group,
                                      ferrule_panel_layout* layout) {
  const Tile* tile = find_tile(op, isa);
  if (!tile) return FERRULE_BAD_ISA;
  const size_t unit = is_sparse(op)    ? kSparseUnit
                      : tile->bits < 8 ? tile->step * (8 / tile->bits)
                                       : tile->step;
  if (depth > PTRDIFF_MAX / 2 || !ferrule::ops::fits(depth + unit, tile->columns * 8, 4))
    return FERRULE_TOO_LARGE;
  if (group >= depth || tile->bits != 4 || reads_palettes(op)) group = 0;
  if (group % unit != 0) return FERRULE_BAD_LAYOUT;
  *layout = {};
  layout->columns = tile->columns;
  layout->step = tile->step;
  layout->palette = tile->palette;
  layout->bits = tile->bits;
  layout->depth = depth;
  layout->padded = round_up(depth, unit);
  layout->group = group;
  layout->groups = group ? (depth + group - 1) / group : 0;
  layout->input = tile->input;

  size_t offset = 0;
  const auto place = [&offset](size_t bytes) {
    const size_t start = offset;
    offset += round_up(bytes, FERRULE_ALIGNMENT);
    return start;
  };
  const size_t codes = layout->padded * tile->columns * tile->bits / 8;
  place(is_sparse(op) ? codes / 2 + layout->padded / kSparseUnit * tile->columns * sizeof(uint32_t) : codes);
  layout->group_scales = place(layout->groups * tile->columns * sizeof(uint16_t));
  layout->scales = place(tile->columns * sizeof(float));
  layout->sums = place(tile->columns * sizeof(int32_t));
  layout->bias = place(tile->columns * sizeof(float));
  layout->tables = place(reads_palettes(op) ? table_bytes(*layout) : 0);
  layout->bytes = offset;
  return FERRULE_OK;
}

size_t ferrule_gemm_scratch(const ferrule_panel_layout* layout) {
  // Weights of kBlockDepth k and the sums of kBlockRows rows: kernels/gemm_f32/panels.h.
  if (layout->input == FERRULE_GEMM_F32) return (512 + 512) * layout->columns * sizeof(float);
  const size_t unpacked = round_up(layout->padded * layout->columns * sizeof(float), FERRULE_ALIGNMENT);
  const size_t scales = round_up(layout->groups * layout->columns * sizeof(float), FERRULE_ALIGNMENT);
  const size_t sums = 32 * layout->columns * sizeof(float);
  return unpacked + scales + 2 * sums;
}

float ferrule::ops::pack_panels(const ferrule_linear_spec& spec, const ferrule_panel_layout& layout,
                                const ferrule_linear_weights& weights, uint8_t* panels) {
  float worst = 0;
  for (size_t first = 0; first < spec.rows; first += layout.columns) {
    const size_t rest = spec.rows - first;
    const Writer writer = {spec,    layout,
                           weights, panels + first / layout.columns * layout.bytes,
                           first,   rest < layout.columns ? rest : layout.columns};
    memset(writer.panel, 0, layout.bytes);
    if (spec.sparse24 && spec.weight == FERRULE_WEIGHT_F32)
      writer.write_kept(weights.values);
    else if (spec.sparse24)
      writer.write_kept(static_cast<const int8_t*>(weights.codes));
    else if (spec.weight == FERRULE_WEIGHT_F32)
      writer.write_floats();
    else
      writer.write_codes();
    if (is_lookup(spec.weight)) {
      if (layout.input == FERRULE_GEMM_F32)
        writer.write_float_palettes();
      else
        worst = fmaxf(worst, writer.write_rounded_palettes());
    } else if (spec.weight != FERRULE_WEIGHT_F32) {
      writer.write_affine_columns();
    }
    for (size_t c = 0; c < writer.count; ++c) {
      if (spec.weight == FERRULE_WEIGHT_F32) writer.section<float>(layout.scales)[c] = 1;
      if (weights.bias) writer.section<float>(layout.bias)[c] = weights.bias[first + c];
    }
  }
  return worst;
}
