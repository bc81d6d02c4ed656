#include "ops/panels.h"

#include <string.h>

#include "ferrule/arena.h"
#include "ops/run.h"

namespace {

using ferrule::ops::kSparseUnit;
using ferrule::ops::round_up;

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
