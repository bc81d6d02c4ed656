// Products of float32 rows with coded weights. Panels hold [k / 4][columns][4] codes (ferrule/gemm.h), so
// that a column is a doubleword of a vector. A vector that is read a byte later has the next k in its low
// bytes: of the shifts that unpack codes, most are done by the loads. `Codes` (decode_*.h) turns the low byte
// of each doubleword to float32:
//
//   kSteps             codes that share a byte, those of k, k + 4, ..
//   kFactor            what all decoded values must be multiplied by
//   read_table         what the palette of the columns, if they have one, is kept as
//   decode<step>       the code of that step in the low byte of each doubleword
//
// Few rows decode in registers as they multiply. For more, blocks of weights are decoded once to scratch
// memory.
#ifndef FERRULE_KERNELS_GEMM_F32_CODED_H
#define FERRULE_KERNELS_GEMM_F32_CODED_H

#include "kernels/gemm_f32/panels.h"
#include "kernels/gemm_f32/steps.h"

namespace {

constexpr size_t kBytes = 4;  // k that lie together
constexpr size_t kTogether =
    16;  // columns that a table is kept for: all of a panel but for the widest vectors

template <typename Codes>
constexpr size_t kUnit = kBytes * Codes::kSteps;  // k of one step of a loop: those whose codes share a vector

inline F32 read_group_scales(const uint16_t* scales) {
  float wide[kLanes];
  for (size_t i = 0; i < kLanes; ++i) {
    const uint32_t bits = static_cast<uint32_t>(scales[i]) << 16;
    memcpy(&wide[i], &bits, sizeof(bits));
  }
  return load(wide);
}

// The palette of the vector of columns from `column` on.
inline const float* palette_at(const ferrule_gemm_args& args, const Panel& panel, size_t column) {
  return static_cast<const float*>(panel.tables) + (column / args.layout.palette << args.layout.bits);
}

// Whether columns that share a table have one palette.
inline bool palettes_fit(const ferrule_gemm_args& args, const Panel& panel) {
  const size_t bytes = sizeof(float) << args.layout.bits;
  for (size_t c = 0; c < panel.count; c += args.layout.palette) {
    if (memcmp(palette_at(args, panel, c), palette_at(args, panel, c / kTogether * kTogether), bytes) != 0)
      return false;
  }
  return true;
}

template <typename Codes, size_t kVectors>
struct Tables {
  static constexpr size_t kCount = kVectors * kLanes / kTogether;
  typename Codes::Table tables[kCount];
  // That of a vector of columns.
  typename Codes::Table at(size_t vector) const { return tables[vector * kLanes / kTogether]; }
};

template <typename Codes, size_t kVectors>
inline Tables<Codes, kVectors> read_tables(const ferrule_gemm_args& args, const Panel& panel) {
  Tables<Codes, kVectors> tables;
#pragma GCC unroll 4
  for (size_t t = 0; t < tables.kCount; ++t)
    tables.tables[t] = Codes::read_table(palette_at(args, panel, t * kTogether));
  return tables;
}

// sums[r][:] = input[r][0..depth) . weights but for the scales of the columns.
template <typename Codes, size_t kRows, size_t kVectors>
__attribute__((noinline)) void multiply_codes_tile(const ferrule_gemm_args& args, const Panel& panel,
                                                   size_t row, float* sums) {
  constexpr size_t kColumns = kVectors * kLanes, unit = kUnit<Codes>, unit_bytes = kColumns * kBytes;
  constexpr size_t chains = kChains<kRows, kVectors>;
  const size_t depth = args.layout.depth, group = args.layout.groups ? args.layout.group : depth + unit;
  const Tables<Codes, kVectors> tables = read_tables<Codes, kVectors>(args, panel);
  const uint8_t* codes = panel.codes;
  F32 tile[chains][kRows][kVectors];
  const auto add_unit = [&](const float* input, size_t stride) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (size_t b = 0; b < kBytes; ++b) {
      Bytes bytes[kVectors];
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) bytes[v] = load_bytes(codes + v * kLanes * kBytes + b);
      for_steps<Codes::kSteps>([&](auto step) __attribute__((always_inline)) {
        F32 columns[kVectors];
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v)
          columns[v] = Codes::template decode<step.value>(bytes[v], tables.at(v));
#pragma GCC unroll 4
        for (size_t r = 0; r < kRows; ++r) {
          const float x = input[r * stride + kBytes * step.value + b];
#pragma GCC unroll 4
          for (size_t v = 0; v < kVectors; ++v) {
            tile[b % chains][r][v] = multiply_add(columns[v], x, tile[b % chains][r][v]);
          }
          keep_order();
        }
      });
    }
#pragma GCC unroll 4
    for (size_t line = 0; line < unit_bytes; line += 64) __builtin_prefetch(codes + kAheadBytes + line, 0, 2);
    codes += unit_bytes;
  };
  for (size_t begin = 0; begin < depth || begin == 0; begin += group) {
#pragma GCC unroll 4
    for (size_t c = 0; c < chains; ++c) {
#pragma GCC unroll 4
      for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) tile[c][r][v] = zeros();
      }
    }
    const size_t end = begin + group < depth ? begin + group : depth;
    const float* input = row_of(args, row);
    size_t k = begin;
    for (; k + unit <= end; k += unit) add_unit(input + k, args.input_stride);
    if (k < end) {
      float rest[kRows * unit] = {};
      for (size_t r = 0; r < kRows; ++r)
        memcpy(rest + r * unit, input + r * args.input_stride + k, (end - k) * sizeof(float));
      add_unit(rest, unit);
    }
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      F32 scale = splat(Codes::kFactor);
      if (args.layout.groups)
        scale = mul(scale, read_group_scales(panel.group_scales + begin / group * kColumns + v * kLanes));
#pragma GCC unroll 4
      for (size_t r = 0; r < kRows; ++r) {
        F32 sum = tile[0][r][v];
#pragma GCC unroll 4
        for (size_t c = 1; c < chains; ++c) sum = add(sum, tile[c][r][v]);
        float* total = sums + r * kColumns + v * kLanes;
        store(total, begin == 0 ? mul(sum, scale) : fma(sum, scale, load(total)));
      }
    }
  }
}

template <typename Codes, size_t kRows, size_t kVectors>
inline void multiply_codes_rows(const ferrule_gemm_args& args, const Panel& panel, size_t row, size_t rows,
                                float* sums) {
  if (rows == kRows)
    multiply_codes_tile<Codes, kRows, kVectors>(args, panel, row, sums);
  else if constexpr (kRows > 1)
    multiply_codes_rows<Codes, kRows - 1, kVectors>(args, panel, row, rows, sums);
}

// weights[i][:] = the weights of k + i, but for the scales of the columns, for `depth` of them and up to a
// whole unit. k is a multiple of the unit.
template <typename Codes, size_t kVectors>
__attribute__((noinline)) void decode_block(const ferrule_gemm_args& args, const Panel& panel, size_t k,
                                            size_t depth, float* weights) {
  constexpr size_t kColumns = kVectors * kLanes, unit = kUnit<Codes>, unit_bytes = kColumns * kBytes;
  const Tables<Codes, kVectors> tables = read_tables<Codes, kVectors>(args, panel);
  F32 scales[kVectors];
#pragma GCC unroll 4
  for (size_t v = 0; v < kVectors; ++v) scales[v] = splat(Codes::kFactor);
  for (size_t i = 0; i < depth; i += unit) {
    if (args.layout.groups && (i == 0 || (k + i) % args.layout.group == 0)) {
      const uint16_t* read = panel.group_scales + (k + i) / args.layout.group * kColumns;
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v)
        scales[v] = mul(splat(Codes::kFactor), read_group_scales(read + v * kLanes));
    }
    const uint8_t* codes = panel.codes + (k + i) / unit * unit_bytes;
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
#pragma GCC unroll 4
      for (size_t b = 0; b < kBytes; ++b) {
        const Bytes bytes = load_bytes(codes + v * kLanes * kBytes + b);
        for_steps<Codes::kSteps>([&](auto step) __attribute__((always_inline)) {
          const F32 values = mul(Codes::template decode<step.value>(bytes, tables.at(v)), scales[v]);
          store(weights + (i + kBytes * step.value + b) * kColumns + v * kLanes, values);
        });
      }
    }
  }
}

// The same where the columns of a vector have several palettes.
inline void look_up_block(const ferrule_gemm_args& args, const Panel& panel, size_t k, size_t depth,
                          float* weights) {
  const ferrule_panel_layout& layout = args.layout;
  const size_t steps = 8 / layout.bits, mask = (size_t{1} << layout.bits) - 1;
  for (size_t i = 0; i < depth; ++i) {
    const size_t quad = (k + i) / kBytes;
    const uint8_t* codes = panel.codes + quad / steps * layout.columns * kBytes + (k + i) % kBytes;
    for (size_t c = 0; c < layout.columns; ++c) {
      weights[i * layout.columns + c] =
          palette_at(args, panel, c)[codes[c * kBytes] >> quad % steps * layout.bits & mask];
    }
  }
}

template <typename Codes, size_t kRows, size_t kVectors>
void multiply_coded_panels(const ferrule_gemm_args& args, size_t begin, size_t end, float* scratch) {
  constexpr size_t kColumns = kVectors * kLanes;
  float* weights = scratch;
  float* sums = scratch + kBlockDepth * kColumns;
  for_blocks<kRows>(args, [&](size_t row, size_t rows) {
    for (size_t p = begin; p < end; ++p) {
      const Panel panel = panel_at(args, p);
      const bool fits = args.layout.tables == args.layout.bytes || palettes_fit(args, panel);
      if (rows <= kFewRows && fits) {
        multiply_codes_rows<Codes, kFewRows, kVectors>(args, panel, row, rows, sums);
      } else {
        for_depths(args.layout.depth, [&](size_t k, size_t depth) {
          if (fits)
            decode_block<Codes, kVectors>(args, panel, k, depth, weights);
          else
            look_up_block(args, panel, k, depth, weights);
          const size_t bytes = depth * kColumns * args.layout.bits / 8;
          const size_t offset = (k + depth) * kColumns * args.layout.bits / 8;
          multiply_block<kRows, kVectors>(args, panel, weights, k, depth, row, rows, sums,
                                          follow(args, panel, k + depth, offset), bytes);
        });
      }
      finish_rows<kColumns>(args, panel, sums, row, rows);
    }
  });
}

}  // namespace

#endif
