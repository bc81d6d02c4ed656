// Integer products over AVX-512 VNNI, for gemm_{i8,i4,lut4,lut2}/avx512.cpp. Panels of 32 columns, steps
// of 4.
//
// A tile is up to 14 rows by 32 columns: 28 accumulators, two vectors of weights and one of inputs fill the
// register file, and each vector of weights that is loaded is used 14 times. m is divided into tiles of
// nearly equal height, so that there is no slow rest. The panel streams from the second-level cache.
#ifndef FERRULE_KERNELS_GEMM_AVX512_H
#define FERRULE_KERNELS_GEMM_AVX512_H

#include <string.h>

#include "kernels/declarations.h"
#include "kernels/gemm/panel.h"
#include "simd/avx512.h"

#include "kernels/gemm/epilogue.h"
#include "simd/avx512_codes.h"

namespace {

constexpr size_t kColumns = 32;
constexpr size_t kBlockBytes = 4 * kColumns;
// Bytes: further than the CPU's own prefetcher, which stops at the end of a page.
constexpr size_t kAhead = 8192;
constexpr size_t kTallest = 14;           // rows of a tile of whole codes
constexpr size_t kFetched = 40;           // rows up to which asking for lines of the output pays
constexpr size_t kTallestUnpacking = 12;  // rows of a tile that unpacks its codes as it goes

// How a block of kBlockBytes bytes becomes `kSteps` steps of int8 weights; `vector` is 0 for the first 16
// columns.
struct WholeCodes {
  static constexpr int kSteps = 1;
  explicit WholeCodes(const Panel&) {}
  __m512i unpack(__m512i bytes, int, int) const { return bytes; }
};

// Nibbles in two's complement, as 16 times their value: one instruction less, made good where sums are read.
struct Nibbles {
  static constexpr int kSteps = 2;
  explicit Nibbles(const Panel&) {}
  __m512i unpack(__m512i bytes, int, int step) const {
    return _mm512_and_si512(step ? bytes : _mm512_slli_epi16(bytes, 4), _mm512_set1_epi8(-16));
  }
};

// Indices into palettes, one palette for each lane of 128 bits: 4 columns.
template <int Bits>
struct Indices {
  static constexpr int kSteps = 8 / Bits;
  explicit Indices(const Panel& panel) {
    palettes[0] = _mm512_load_si512(panel.tables);
    palettes[1] = _mm512_load_si512(static_cast<const uint8_t*>(panel.tables) + 64);
  }
  __m512i unpack(__m512i bytes, int vector, int step) const {
    const __m512i low = step == 0   ? bytes
                        : step == 1 ? _mm512_srli_epi16(bytes, Bits)
                        : step == 2 ? _mm512_srli_epi16(bytes, 4)
                                    : _mm512_srli_epi16(bytes, 6);
    return _mm512_shuffle_epi8(palettes[vector], _mm512_and_si512(low, _mm512_set1_epi8((1 << Bits) - 1)));
  }
  __m512i palettes[2];
};

// What one tile reads, and where its sums go.
struct Tile {
  const uint8_t* input;
  size_t stride;
  const uint8_t* codes;
  const Panel* panel;
  const __m512i* start;       // of the sums, unless there are groups
  const float* group_scales;  // of whole codes that were nibbles, widened; else read from the panel
  size_t blocks;
  size_t group_blocks;   // of a group; 0 where there are none
  const uint8_t* ahead;  // fetched meanwhile, `ahead_bytes` for each block: the next panel
  size_t ahead_bytes;
  void* sums;  // [rows][kColumns]: int32, or float32 where there are groups
};

// Where a tile is in its memory. Row r of the input lies (r % 3) strides behind inputs[r / 3]: addresses that
// an instruction can hold.
template <int Rows>
struct Place {
  static constexpr int kInputs = (Rows + 2) / 3;

  __attribute__((always_inline)) explicit Place(const Tile& tile)
      : codes(tile.codes), ahead(tile.ahead), stride(tile.stride), ahead_bytes(tile.ahead_bytes) {
#pragma GCC unroll 5
    for (int i = 0; i < kInputs; ++i) inputs[i] = tile.input + 3 * static_cast<size_t>(i) * stride;
  }
  __attribute__((always_inline)) void advance(size_t blocks, size_t steps) {
    _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T1);
    ahead += blocks * ahead_bytes;
    codes += blocks * kBlockBytes;
#pragma GCC unroll 5
    for (int i = 0; i < kInputs; ++i) inputs[i] += blocks * steps * 4;
  }

  const uint8_t* inputs[kInputs];
  const uint8_t* codes;
  const uint8_t* ahead;
  size_t stride, ahead_bytes;
};

inline __m512i broadcast_codes(const uint8_t* codes) {
  int32_t four;
  memcpy(&four, codes, sizeof(four));
  return _mm512_set1_epi32(four);
}

inline F32 widen_bfloat16(const uint16_t* p) {
  const __m256i halves = _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// Few rows have too few accumulators to hide the latency of a product: they get a second set, for odd steps.
template <int Rows>
constexpr int kSets = Rows <= 4 ? 2 : 1;

// `Vectors` of columns: one where no more than 16 columns of a panel exist.
template <int Rows, int Vectors>
struct TileSums {
  __m512i at[kSets<Rows>][Rows][Vectors];
};

// The products of `Blocks` blocks.
template <int Rows, int Vectors, int Blocks, typename Codes>
__attribute__((always_inline)) inline void add_blocks(TileSums<Rows, Vectors>& sums, const Codes& codes,
                                                      const Place<Rows>& place) {
#pragma GCC unroll 2
  for (int block = 0; block < Blocks; ++block) {
    const uint8_t* bytes = place.codes + kBlockBytes * static_cast<size_t>(block);
    __m512i packed[Vectors], weights[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) packed[v] = _mm512_load_si512(bytes + 64 * static_cast<size_t>(v));
#pragma GCC unroll 4
    for (int step = 0; step < Codes::kSteps; ++step) {
      const int at = block * Codes::kSteps + step, set = at % kSets<Rows>;
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) weights[v] = codes.unpack(packed[v], v, step);
#pragma GCC unroll 14
      for (int r = 0; r < Rows; ++r) {
        const __m512i input =
            broadcast_codes(place.inputs[r / 3] + static_cast<size_t>(r % 3) * place.stride + 4 * at);
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v)
          sums.at[set][r][v] = dot_codes(sums.at[set][r][v], input, weights[v]);
      }
    }
  }
}

template <int Rows, int Vectors, typename Codes>
__attribute__((always_inline)) inline void add_run(TileSums<Rows, Vectors>& sums, const Codes& codes,
                                                   size_t blocks, Place<Rows>& place) {
  constexpr int kRound = Codes::kSteps == 1 ? 2 : 1;
  for (; blocks >= kRound; blocks -= kRound) {
    add_blocks<Rows, Vectors, kRound>(sums, codes, place);
    place.advance(kRound, Codes::kSteps);
  }
  if (kRound > 1 && blocks > 0) {
    add_blocks<Rows, Vectors, 1>(sums, codes, place);
    place.advance(1, Codes::kSteps);
  }
}

template <int Rows, int Vectors>
__attribute__((always_inline)) inline void begin(TileSums<Rows, Vectors>& sums, const __m512i* start) {
#pragma GCC unroll 2
  for (int set = 0; set < kSets<Rows>; ++set) {
#pragma GCC unroll 14
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v)
        sums.at[set][r][v] = set || !start ? _mm512_setzero_si512() : start[v];
    }
  }
}

template <int Rows, int Vectors>
__attribute__((always_inline)) inline __m512i total(const TileSums<Rows, Vectors>& sums, int r, int v) {
  const __m512i first = sums.at[0][r][v];
  return kSets<Rows> == 1 ? first : _mm512_add_epi32(first, sums.at[kSets<Rows> - 1][r][v]);
}

template <int Rows, int Vectors, typename Codes>
void multiply_tile(const Tile& tile) {
  const Codes codes(*tile.panel);
  Place<Rows> place(tile);
  TileSums<Rows, Vectors> sums;
  begin(sums, tile.start);
  add_run(sums, codes, tile.blocks, place);
#pragma GCC unroll 14
  for (int r = 0; r < Rows; ++r) {
    auto* row = static_cast<int32_t*>(tile.sums) + static_cast<size_t>(r) * kColumns;
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) _mm512_store_si512(row + 16 * v, total(sums, r, v));
  }
}

// Sums of groups as float32, group_scale times the group's products: they are kept in memory, for which the
// ports are free.
template <int Rows, typename Codes>
void multiply_grouped_tile(const Tile& tile) {
  const Codes codes(*tile.panel);
  Place<Rows> place(tile);
  const uint16_t* narrow = tile.panel->group_scales;
  const float* wide = tile.group_scales;
  auto* totals = static_cast<float*>(tile.sums);
  for (size_t i = 0; i < Rows * kColumns; i += kLanes) store(totals + i, zeros());
  for (size_t left = tile.blocks; left > 0;) {
    const size_t blocks = left < tile.group_blocks ? left : tile.group_blocks;
    TileSums<Rows, 2> sums;
    begin(sums, nullptr);
    add_run(sums, codes, blocks, place);
    const F32 first = Codes::kSteps == 1 ? load(wide) : widen_bfloat16(narrow);
    const F32 second = Codes::kSteps == 1 ? load(wide + 16) : widen_bfloat16(narrow + 16);
    // Else GCC keeps the totals of all groups in registers that there are not, and so twice in memory.
    __asm__ volatile("" : "+r"(totals) : : "memory");
#pragma GCC unroll 14
    for (int r = 0; r < Rows; ++r) {
      float* row = totals + static_cast<size_t>(r) * kColumns;
      store(row, fma(_mm512_cvtepi32_ps(total(sums, r, 0)), first, load(row)));
      store(row + 16, fma(_mm512_cvtepi32_ps(total(sums, r, 1)), second, load(row + 16)));
    }
    narrow += kColumns;
    wide += kColumns;
    left -= blocks;
  }
}

using TileFn = void(const Tile&);

template <int Vectors, typename Codes>
constexpr TileFn* kTiles[] = {
    multiply_tile<1, Vectors, Codes>,  multiply_tile<2, Vectors, Codes>,  multiply_tile<3, Vectors, Codes>,
    multiply_tile<4, Vectors, Codes>,  multiply_tile<5, Vectors, Codes>,  multiply_tile<6, Vectors, Codes>,
    multiply_tile<7, Vectors, Codes>,  multiply_tile<8, Vectors, Codes>,  multiply_tile<9, Vectors, Codes>,
    multiply_tile<10, Vectors, Codes>, multiply_tile<11, Vectors, Codes>, multiply_tile<12, Vectors, Codes>,
    multiply_tile<13, Vectors, Codes>, multiply_tile<14, Vectors, Codes>};

template <typename Codes>
constexpr TileFn* kGroupedTiles[] = {
    multiply_grouped_tile<1, Codes>,  multiply_grouped_tile<2, Codes>,  multiply_grouped_tile<3, Codes>,
    multiply_grouped_tile<4, Codes>,  multiply_grouped_tile<5, Codes>,  multiply_grouped_tile<6, Codes>,
    multiply_grouped_tile<7, Codes>,  multiply_grouped_tile<8, Codes>,  multiply_grouped_tile<9, Codes>,
    multiply_grouped_tile<10, Codes>, multiply_grouped_tile<11, Codes>, multiply_grouped_tile<12, Codes>,
    multiply_grouped_tile<13, Codes>, multiply_grouped_tile<14, Codes>};

// The tile of so many rows, over those columns of a panel that exist.
template <typename Codes>
TileFn* choose_tile(size_t rows, const Panel& panel, bool grouped) {
  if (grouped) return kGroupedTiles<Codes>[rows - 1];
  // Codes that are unpacked on the way have tiles of one width: they are bound by the memory.
  if constexpr (Codes::kSteps == 1) {
    if (panel.count <= kLanes) return kTiles<1, Codes>[rows - 1];
  }
  return kTiles<2, Codes>[rows - 1];
}

// What is the same for all tiles of a panel. Where all rows have one scale and zero point (`folded`), sums
// start with what the zero point takes off, and what follows them is one product and one sum for each column;
// also for codes, if their activation is a bound.
struct Ending {
  Ending(const ferrule_gemm_args& args, const Panel& panel, int32_t scale)
      : epilogue(args.epilogue),
        code_scale(scale),
        folded(args.uniform && !args.layout.groups),
        to_codes(
            folded && args.epilogue.output_scale != 0 &&
            (args.epilogue.residual ? args.epilogue.activation == FERRULE_ACTIVATION_NONE : epilogue.bounds)),
        bounds(bound_codes(args.epilogue)) {
    for (size_t v = 0; v < 2; ++v) {
      const float unit = (folded ? args.input_scales[0] : 1) / static_cast<float>(code_scale);
      factor[v] = mul(load(panel.scales + kLanes * v), splat(unit));
      offset[v] = load(panel.bias + kLanes * v);
      if (to_codes) {
        factor[v] = mul(factor[v], epilogue.inverse);
        offset[v] = fma(offset[v], epilogue.inverse, epilogue.zero);
      }
      const __m512i columns = _mm512_load_si512(static_cast<const int32_t*>(panel.sums) + kLanes * v);
      column_sums[v] = _mm512_mullo_epi32(columns, _mm512_set1_epi32(code_scale));
      start[v] = folded ? _mm512_mullo_epi32(column_sums[v], _mm512_set1_epi32(-args.input_zeros[0]))
                        : _mm512_setzero_si512();
    }
  }

  Epilogue epilogue;
  int32_t code_scale;
  bool folded, to_codes;
  Bounds bounds;
  F32 factor[2], offset[2];
  __m512i column_sums[2];  // no sums of groups
  __m512i start[2];
};

// Sums of columns are split below bit kSplit: the higher part fits 16 bits up to this depth.
constexpr int kSplit = 7;
constexpr size_t kDeepestSplit = 32767;

// Rows of a tile from the sums on.
struct TileRows {
  size_t first, count;
  const void* sums;

  __m512i products(size_t r, size_t column) const {
    return _mm512_load_si512(static_cast<const int32_t*>(sums) + r * kColumns + column);
  }
};

// The sums of up to 16 columns of one tile as products of floats, bias added, each given to write(row, y).
template <typename Write>
__attribute__((always_inline)) inline void scale_sums(const ferrule_gemm_args& args, const Ending& ending,
                                                      const TileRows& rows, size_t column, Write write) {
  const size_t v = column / kLanes;
  const F32 factor = ending.factor[v], offset = ending.offset[v];
  if (args.layout.depth > kDeepestSplit) {
    for (size_t r = 0; r < rows.count; ++r) {
      const size_t row = rows.first + r;
      const __m512i correction =
          _mm512_mullo_epi32(ending.column_sums[v], _mm512_set1_epi32(args.input_zeros[row]));
      const F32 y = _mm512_cvtepi32_ps(_mm512_sub_epi32(rows.products(r, column), correction));
      write(row, fma(y, mul(factor, splat(args.input_scales[row])), offset));
    }
    return;
  }
  // A sum of 32 bits times a zero point of 8, as two products of 16 bits: one instruction, where the whole
  // product takes three.
  const __m512i high = _mm512_slli_epi32(_mm512_srai_epi32(ending.column_sums[v], kSplit), 16);
  const __m512i low = _mm512_and_si512(ending.column_sums[v], _mm512_set1_epi32((1 << kSplit) - 1));
  const __m512i split = _mm512_or_si512(high, low);
  for (size_t r = 0; r < rows.count; ++r) {
    const size_t row = rows.first + r;
    const int32_t zero = -args.input_zeros[row];
    const auto pair = static_cast<int32_t>((static_cast<uint32_t>(zero) << (16 + kSplit)) | (zero & 0xFFFF));
    const F32 y =
        _mm512_cvtepi32_ps(_mm512_dpwssd_epi32(rows.products(r, column), split, _mm512_set1_epi32(pair)));
    write(row, fma(y, mul(factor, splat(args.input_scales[row])), offset));
  }
}

template <typename Write>
__attribute__((always_inline)) inline void scale_folded_sums(const Ending& ending, const TileRows& rows,
                                                             size_t column, Write write) {
  const F32 factor = ending.factor[column / kLanes], offset = ending.offset[column / kLanes];
  for (size_t r = 0; r < rows.count; ++r)
    write(rows.first + r, fma(_mm512_cvtepi32_ps(rows.products(r, column)), factor, offset));
}

// The same of float32 sums of groups.
template <typename Write>
__attribute__((always_inline)) inline void scale_grouped_sums(const ferrule_gemm_args& args,
                                                              const Panel& panel, const Ending& ending,
                                                              const TileRows& rows, size_t column,
                                                              Write write) {
  const float scale = static_cast<float>(ending.code_scale);
  const F32 unit = splat(1 / scale), bias = load(panel.bias + column);
  const F32 column_sums = mul(load(static_cast<const float*>(panel.sums) + column), splat(scale));
  for (size_t r = 0; r < rows.count; ++r) {
    const size_t row = rows.first + r;
    const F32 products = _mm512_castsi512_ps(rows.products(r, column));
    const F32 y = fnma(splat(static_cast<float>(args.input_zeros[row])), column_sums, products);
    write(row, fma(y, mul(unit, splat(args.input_scales[row])), bias));
  }
}

// Scale, bias and what `write` adds to them, for up to 16 columns of a tile.
template <typename Write>
__attribute__((always_inline)) inline void scale_tile(const ferrule_gemm_args& args, const Panel& panel,
                                                      const Ending& ending, const TileRows& rows,
                                                      size_t column, Write write) {
  if (args.layout.groups)
    scale_grouped_sums(args, panel, ending, rows, column, write);
  else if (ending.folded)
    scale_folded_sums(ending, rows, column, write);
  else
    scale_sums(args, ending, rows, column, write);
}

// Codes of a tile. Four vectors of sums become one of bytes, in whose lanes each has a double word.
template <size_t Vectors, bool Adds>
void write_codes(const ferrule_gemm_args& args, const Panel& panel, const Ending& ending,
                 const TileRows& rows) {
  constexpr size_t kTogether = 4 / Vectors;  // rows
  const __mmask32 columns = _bzhi_u32(~0u, static_cast<unsigned>(panel.count));
  auto* output = static_cast<int8_t*>(args.output) + rows.first * args.output_stride + panel.first;
  for (size_t first = 0; first < rows.count; first += kTogether) {
    const size_t rest = rows.count - first;
    F32 y[4];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) {
      const size_t row = first + (i / Vectors < rest ? i / Vectors : 0), v = i % Vectors;
      y[i] = fma(_mm512_cvtepi32_ps(rows.products(row, kLanes * v)), ending.factor[v], ending.offset[v]);
      if (Adds) {
        const float* residual =
            args.epilogue.residual + (rows.first + row) * args.epilogue.residual_stride + panel.first;
        const auto mask = static_cast<Mask>(columns >> (kLanes * v));
        y[i] = fma(_mm512_maskz_loadu_ps(mask, residual + kLanes * v), ending.epilogue.inverse, y[i]);
      }
    }
    const __m512i codes = round_codes(y, ending.bounds);
    if constexpr (Vectors == 2) {
      _mm256_mask_storeu_epi8(output, columns, _mm512_castsi512_si256(codes));
      if (rest > 1)
        _mm256_mask_storeu_epi8(output + args.output_stride, columns, _mm512_extracti64x4_epi64(codes, 1));
    } else {
      store_code_rows(output, args.output_stride, codes, rest, static_cast<Mask>(columns));
    }
    output += kTogether * args.output_stride;
  }
}

// 16 columns of a tile as floats, each activate(row, y).
template <typename Activate>
__attribute__((noinline)) void write_floats(const ferrule_gemm_args& args, const Panel& panel,
                                            const Ending& ending, const TileRows& rows, size_t column,
                                            Activate activate) {
  float* output = static_cast<float*>(args.output) + panel.first + column;
  const size_t stride = args.output_stride;
  scale_tile(args, panel, ending, rows, column,
             [&](size_t row, F32 y) { store(output + row * stride, activate(row, y)); });
}

// Scale, bias and epilogue of a tile. What is frequent has a loop of its own, without the branches of all
// other epilogues.
void finish_tile(const ferrule_gemm_args& args, const Panel& panel, const Ending& ending,
                 const TileRows& rows) {
  if (ending.to_codes) {
    const bool wide = panel.count > kLanes;
    if (args.epilogue.residual)
      return (wide ? write_codes<2, true> : write_codes<1, true>)(args, panel, ending, rows);
    return (wide ? write_codes<2, false> : write_codes<1, false>)(args, panel, ending, rows);
  }
  const Epilogue& epilogue = ending.epilogue;
  const float* residual = args.epilogue.residual;
  const size_t residual_stride = args.epilogue.residual_stride;
  const bool bounds = epilogue.bounds, is_gelu = args.epilogue.activation == FERRULE_ACTIVATION_GELU;
  for (size_t column = 0; column < panel.count; column += kLanes) {
    const size_t count = panel.count - column < kLanes ? panel.count - column : kLanes,
                 at = panel.first + column;
    const bool whole = args.epilogue.output_scale == 0 && count == kLanes;
    if (whole && bounds && !residual) {
      write_floats(args, panel, ending, rows, column, [&](size_t, F32 y) { return epilogue.bound(y); });
    } else if (whole && bounds) {
      write_floats(args, panel, ending, rows, column, [&](size_t row, F32 y) {
        return add(epilogue.bound(y), load(residual + row * residual_stride + at));
      });
    } else if (whole && is_gelu && !residual) {
      write_floats(args, panel, ending, rows, column, [](size_t, F32 y) { return gelu_exact(y); });
    } else {
      scale_tile(args, panel, ending, rows, column,
                 [&](size_t row, F32 y) { finish(args, epilogue, row, at, count, y); });
    }
  }
}

// All tiles of one panel, whose codes are read through Codes. Meanwhile the next panel is fetched, a part by
// each tile; a single tile, which is bound by the memory, fetches what it will read itself.
template <typename Codes>
void multiply_panel(const ferrule_gemm_args& args, const Panel& panel, Tile tile, size_t tallest,
                    int32_t code_scale) {
  const ferrule_panel_layout& layout = args.layout;
  const size_t tiles = (args.m + tallest - 1) / tallest, depth = 4 * Codes::kSteps;
  const Ending ending(args, panel, code_scale);
  tile.panel = &panel;
  tile.start = ending.start;
  tile.stride = args.input_stride;
  tile.blocks = layout.padded / depth;
  tile.group_blocks = layout.group / depth;
  tile.ahead_bytes = tiles > 1 ? layout.bytes / (tiles * (tile.blocks + 1)) + 1 : kBlockBytes;
  for (size_t t = 0, first = 0; t < tiles; ++t) {
    const size_t rows = (args.m - first + tiles - t - 1) / (tiles - t);
    tile.input = static_cast<const uint8_t*>(args.input) + first * args.input_stride;
    tile.ahead = panel.codes + (tiles > 1 ? layout.bytes + t * tile.blocks * tile.ahead_bytes : kAhead);
    if (tiles > 1 && args.m <= kFetched) fetch_output(args, panel, first, rows);
    choose_tile<Codes>(rows, panel, layout.groups > 0)(tile);
    finish_tile(args, panel, ending, {first, rows, tile.sums});
    first += rows;
  }
}

template <typename Codes>
void unpack_panel(const Panel& panel, size_t blocks, uint8_t* whole) {
  const Codes codes(panel);
  for (size_t b = 0; b < blocks; ++b) {
    const uint8_t* bytes = panel.codes + b * kBlockBytes;
    const __m512i first = _mm512_load_si512(bytes), second = _mm512_load_si512(bytes + 64);
#pragma GCC unroll 4
    for (int step = 0; step < Codes::kSteps; ++step) {
      _mm512_store_si512(whole, codes.unpack(first, 0, step));
      _mm512_store_si512(whole + 64, codes.unpack(second, 1, step));
      whole += kBlockBytes;
    }
  }
}

const float* widen_group_scales(const ferrule_panel_layout& layout, const Panel& panel, void* memory) {
  auto* wide = static_cast<float*>(memory);
  for (size_t i = 0; i < layout.groups * kColumns; i += kLanes) {
    store(wide + i, widen_bfloat16(panel.group_scales + i));
  }
  return wide;
}

// Panels [begin, end). Where one tile covers all rows its codes are unpacked on the way, else once for all
// tiles.
template <typename Codes>
void multiply_panels(const ferrule_gemm_args& args, size_t begin, size_t end, void* scratch,
                     int32_t code_scale = 1) {
  const ferrule_panel_layout& layout = args.layout;
  Tile tile = {};
  tile.sums = scratch;
  uint8_t* whole = static_cast<uint8_t*>(scratch) + kTallest * kColumns * sizeof(float);
  for (size_t p = begin; p < end; ++p) {
    const Panel panel = panel_at(args, p);
    tile.codes = panel.codes;
    if (Codes::kSteps == 1) {
      multiply_panel<WholeCodes>(args, panel, tile, kTallest, code_scale);
    } else if (args.m <= kTallestUnpacking) {
      multiply_panel<Codes>(args, panel, tile, kTallestUnpacking, code_scale);
    } else {
      unpack_panel<Codes>(panel, layout.padded / (4 * Codes::kSteps), whole);
      tile.codes = whole;
      tile.group_scales = widen_group_scales(layout, panel, whole + layout.padded * kColumns);
      multiply_panel<WholeCodes>(args, panel, tile, kTallest, code_scale);
    }
  }
}

}  // namespace

#endif
