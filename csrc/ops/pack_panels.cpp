#include <math.h>
#include <string.h>

#include <algorithm>
#include <atomic>

#include "ops/panels.h"
#include "ops/run.h"

namespace {

using ferrule::ops::is_lookup;
using ferrule::ops::kSparseUnit;

// The next word of a panel: the codes of kParts words of a row, each shifted into the bits that the last has
// left.
template <typename Word, size_t kParts>
Word join(const uint8_t* codes) {
  constexpr size_t kBits = 8 / kParts;
  constexpr auto kMask = static_cast<Word>(static_cast<Word>(-1) / 255 * ((1u << kBits) - 1));
  Word joined = 0;
  for (size_t part = 0; part < kParts; ++part) {
    Word word;
    memcpy(&word, codes + part * sizeof(Word), sizeof(Word));
    joined = static_cast<Word>(joined | (word & kMask) << (part * kBits));
  }
  return joined;
}

// Writes kRows rows of `bytes` bytes, one code each, into columns that lie beside each other: all of them
// word by word, so that each write is as long as a vector. `stride`: bytes from word to word of a column.
template <typename Word, size_t kParts, size_t kRows>
void write_rows(const uint8_t* rows, size_t bytes, uint8_t* to, size_t stride) {
  constexpr size_t kTaken = kParts * sizeof(Word);
  size_t done = 0;
  for (; done + kTaken <= bytes; done += kTaken, to += stride) {
    Word words[kRows];
    for (size_t row = 0; row < kRows; ++row) words[row] = join<Word, kParts>(rows + row * bytes + done);
    memcpy(to, words, sizeof(words));
  }
  if (done == bytes) return;
  for (size_t row = 0; row < kRows; ++row) {
    uint8_t rest[kTaken] = {};
    memcpy(rest, rows + row * bytes + done, bytes - done);
    const Word word = join<Word, kParts>(rest);
    memcpy(to + row * sizeof(Word), &word, sizeof(Word));
  }
}

// The same for one row of any kind, into zeros: for the last rows of a layer.
void write_row(const uint8_t* row, size_t bytes, uint8_t* to, size_t stride, size_t word_bytes, size_t bits) {
  const size_t parts = 8 / bits;
  for (size_t i = 0; i < bytes; ++i) {
    const size_t word = i / word_bytes;
    uint8_t& place = to[word / parts * stride + i % word_bytes];
    place = static_cast<uint8_t>(place | (row[i] & ((1u << bits) - 1)) << (word % parts * bits));
  }
}

// What writes so many rows of a panel at once.
struct RowWriter {
  size_t rows;
  void (*write)(const uint8_t* rows, size_t bytes, uint8_t* to, size_t stride);
};

template <typename Word>
RowWriter choose_row_writer(size_t bits) {
  constexpr size_t kRows = 16 / sizeof(Word);
  if (bits == 8) return {kRows, write_rows<Word, 1, kRows>};
  if (bits == 4) return {kRows, write_rows<Word, 2, kRows>};
  return {kRows, write_rows<Word, 4, kRows>};
}

RowWriter choose_row_writer(size_t word_bytes, size_t bits) {
  switch (word_bytes) {
    case 2:
      return choose_row_writer<uint16_t>(bits);
    case 4:
      return choose_row_writer<uint32_t>(bits);
    default:
      return choose_row_writer<uint64_t>(bits);  // no tile has longer steps
  }
}

// Eight codes at a time, as four sums of two: 128 more than they are, none is negative.
int32_t sum_codes(const int8_t* codes, size_t count) {
  constexpr uint64_t kSigns = 0x8080808080808080u, kEven = 0x00FF00FF00FF00FFu;
  constexpr size_t kMost = 128;  // words whose sums hold in 16 bits
  int32_t total = 0;
  size_t i = 0;
  while (count - i >= sizeof(uint64_t)) {
    const size_t words = std::min((count - i) / sizeof(uint64_t), kMost);
    uint64_t sums = 0;
    for (size_t w = 0; w < words; ++w, i += sizeof(uint64_t)) {
      uint64_t word;
      memcpy(&word, codes + i, sizeof(word));
      word ^= kSigns;
      sums += (word & kEven) + (word >> 8 & kEven);
    }
    for (; sums; sums >>= 16) total += static_cast<int32_t>(sums & 0xFFFF);
    total -= static_cast<int32_t>(128 * sizeof(uint64_t) * words);
  }
  for (; i < count; ++i) total += codes[i];
  return total;
}

// The sum of the entries that codes below 16 name.
int32_t sum_entries(const uint8_t* codes, size_t count, const int8_t* palette) {
  int32_t entries[16], total = 0;
  std::copy(palette, palette + 16, entries);
  size_t i = 0;
  for (; i + sizeof(uint64_t) <= count; i += sizeof(uint64_t)) {  // one read for eight codes
    uint64_t word;
    memcpy(&word, codes + i, sizeof(word));
    for (int shift = 0; shift < 64; shift += 8) total += entries[word >> shift & 15];
  }
  for (; i < count; ++i) total += entries[codes[i] & 15];
  return total;
}

struct Layer {
  const ferrule_linear_spec& spec;
  const ferrule_panel_layout& layout;
  const ferrule_linear_weights& weights;
};

// One panel being written: column c is output feature first + c.
struct Writer : Layer {
  uint8_t* panel;
  size_t first, count;

  template <typename T>
  T* section(size_t offset) const {
    return reinterpret_cast<T*>(panel + offset);
  }

  // The weights of a row by whole words: floats, or codes of any size.
  void write_words() const {
    const size_t element = spec.weight == FERRULE_WEIGHT_F32 ? sizeof(float) : 1;
    const size_t row_bytes = layout.depth * element, word_bytes = layout.step * element;
    const void* all = element == 1 ? weights.codes : weights.values;
    const auto* rows = static_cast<const uint8_t*>(all) + first * row_bytes;
    const size_t bits = element == 1 ? layout.bits : 8, stride = layout.columns * word_bytes;
    const RowWriter writer = choose_row_writer(word_bytes, bits);
    size_t c = 0;
    for (; c + writer.rows <= count; c += writer.rows)
      writer.write(rows + c * row_bytes, row_bytes, panel + c * word_bytes, stride);
    for (; c < count; ++c)
      write_row(rows + c * row_bytes, row_bytes, panel + c * word_bytes, stride, word_bytes, bits);
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
        const size_t end = std::min(k + group, layout.depth);
        const int32_t sum = sum_codes(row + k, end - k);
        k = end;
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
      section<int32_t>(layout.sums)[c] = sum_entries(row, layout.depth, rounded);
      const float scale = weights.scales ? weights.scales[first + c] : 1;
      section<float>(layout.scales)[c] = static_cast<float>(static_cast<double>(scale) * largest / 127);
    }
    return worst;
  }

  // Returns the largest rounding of a palette entry.
  float write() const {
    float worst = 0;
    // Words of whole panels are written all; those behind the last row of the last panel are not.
    const size_t written = spec.sparse24 || count < layout.columns ? 0 : layout.group_scales;
    memset(panel + written, 0, layout.bytes - written);
    if (spec.sparse24 && spec.weight == FERRULE_WEIGHT_F32)
      write_kept(weights.values);
    else if (spec.sparse24)
      write_kept(static_cast<const int8_t*>(weights.codes));
    else
      write_words();
    if (is_lookup(spec.weight)) {
      if (layout.input == FERRULE_GEMM_F32)
        write_float_palettes();
      else
        worst = write_rounded_palettes();
    } else if (spec.weight != FERRULE_WEIGHT_F32) {
      write_affine_columns();
    }
    for (size_t c = 0; c < count; ++c) {
      if (spec.weight == FERRULE_WEIGHT_F32) section<float>(layout.scales)[c] = 1;
      if (weights.bias) section<float>(layout.bias)[c] = weights.bias[first + c];
    }
    return worst;
  }
};

struct Panels : Layer {
  uint8_t* panels;
  std::atomic<float>& worst;
};

void write_panels(const Panels* all, size_t begin, size_t end, void*) {
  float worst = 0;
  for (size_t index = begin; index < end; ++index) {
    const size_t first = index * all->layout.columns;
    const size_t count = std::min(all->layout.columns, all->spec.rows - first);
    uint8_t* panel = all->panels + index * all->layout.bytes;
    const Writer writer = {*all, panel, first, count};
    worst = fmaxf(worst, writer.write());
  }
  float known = all->worst;
  while (known < worst && !all->worst.compare_exchange_weak(known, worst)) {
  }
}

}  // namespace

float ferrule::ops::pack_panels(const ferrule_linear_spec& spec, const ferrule_panel_layout& layout,
                                const ferrule_linear_weights& weights, uint8_t* panels, ferrule_pool* pool) {
  constexpr size_t kSmallestTask = 1 << 16;  // bytes
  std::atomic<float> worst{0};
  const Panels all = {{spec, layout, weights}, panels, worst};
  const size_t count = (spec.rows + layout.columns - 1) / layout.columns;
  const size_t tasks = choose_tasks(count, std::max<size_t>(1, kSmallestTask / layout.bytes), pool);
  run(write_panels, all, count, tasks, pool);
  return worst;
}
