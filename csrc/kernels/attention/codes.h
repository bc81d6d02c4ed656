// Rows of coded keys and values as float32: a block at a time into scratch memory, or a vector at a time.
#ifndef FERRULE_KERNELS_ATTENTION_CODES_H
#define FERRULE_KERNELS_ATTENTION_CODES_H

#include "kernels/attention/tile.h"

namespace {

// Codes [channel, channel + count) of one plane of a row.
template <typename Load>
inline F32 load_part(const unsigned char* bytes, size_t count, const Load& load_vector) {
  if (count == kLanes) return load_vector(bytes);
  unsigned char padded[kLanes] = {};
  memcpy(padded, bytes, count);
  return load_vector(padded);
}

void decode_row(const ferrule_kv& kv, const HeadRows& rows, size_t token, size_t head_size, float* to) {
  const size_t bits = code_bits(kv.kind), plane = plane_size(kv.kind, head_size),
               group = group_size(kv, head_size);
  const unsigned char* row = rows.data + token * rows.row_bytes;
  size_t end = 0;
  for (size_t c = 0; c < head_size; c = end) {
    const size_t p = c / plane;
    end = smaller(smaller((p + 1) * plane, (c / group + 1) * group), head_size);
    const size_t at = token * rows.scale_stride + c / group;
    const F32 scale = splat(rows.scales[at]), offset = splat(rows.offsets ? rows.offsets[at] : 0.0f);
    for_vectors(end - c, [&](size_t i, size_t count) {
      const F32 code = load_part(row + c - p * plane + i, count, [&](const unsigned char* bytes) {
        return bits == 8 ? load_signed(bytes)
                         : load_unsigned(bytes, static_cast<int>(p * bits), (1 << bits) - 1);
      });
      store_some(to + c + i, fma(code, scale, offset), count);
    });
  }
}

// Copies rows [first, first + count), padded with zeros to whole vectors, to `scratch`.
FloatColumns copy_rows(const ferrule_kv& kv, const HeadRows& rows, size_t first, size_t count,
                       size_t head_size, float* scratch, size_t width) {
  for (size_t t = 0; t < count; ++t) {
    float* to = scratch + t * width;
    if (kv.kind == FERRULE_KV_F32) {
      const auto* from = reinterpret_cast<const float*>(rows.data + (first + t) * rows.row_bytes);
      for_vectors(head_size, [&](size_t c, size_t lanes) { store(to + c, load_some(from + c, lanes)); });
    } else {
      decode_row(kv, rows, first + t, head_size, to);
      for (size_t c = head_size; c < round_up(head_size, kLanes); ++c) to[c] = 0;
    }
  }
  return {scratch, width};
}

// Rows [first, first + count) as whole vectors: those of the cache itself where they are, else copies.
FloatColumns float_rows(const ferrule_kv& kv, const HeadRows& rows, size_t first, size_t count,
                        size_t head_size, float* scratch, size_t width) {
  if (kv.kind == FERRULE_KV_F32 && head_size % kLanes == 0) {
    return {reinterpret_cast<const float*>(rows.data + first * rows.row_bytes),
            rows.row_bytes / sizeof(float)};
  }
  return copy_rows(kv, rows, first, count, head_size, scratch, width);
}

// Whether vectors of bytes give whole vectors of channels under one scale, so that CodedColumns can be used.
inline bool has_whole_vectors(const ferrule_kv& kv, size_t head_size) {
  return kv.kind != FERRULE_KV_F32 && group_size(kv, head_size) == head_size &&
         (head_size * code_bits(kv.kind)) % (8 * kLanes) == 0;
}

constexpr float kNoOffset = 0;

// kVectors vectors of coded rows, decoded as they are read. Vectors are numbered by bytes first, planes last:
// those of one vector of bytes follow each other.
template <ferrule_kv_kind kKind, int kVectors>
struct CodedColumns {
  static constexpr int kPlanes = kKind == FERRULE_KV_I8 ? 1 : kKind == FERRULE_KV_I4 ? 2 : 4;
  static constexpr int kSpan = kPlanes < kVectors ? kPlanes : kVectors;
  const unsigned char* data;
  const float* scales;
  const float* offsets;  // kNoOffset, with a stride of zero, where there are none
  size_t row_bytes, scale_stride, offset_stride, plane_size;
  int plane;  // of vector 0

  size_t offset(int v) const {
    return static_cast<size_t>(v % kSpan) * plane_size + static_cast<size_t>(v / kSpan) * kLanes;
  }
  void read(size_t row, int n, F32 (&span)[kSpan]) const {
    const Codebook book = make_codebook<kKind>(scales[row * scale_stride], offsets[row * offset_stride]);
    const Codes codes = load_codes<kKind>(data + row * row_bytes + static_cast<size_t>(n) * kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < kSpan; ++i) span[i] = look_up<kKind>(codes, kSpan == kPlanes ? i : plane + i, book);
  }
};

template <ferrule_kv_kind kKind>
struct CodedBlock {
  const HeadRows& rows;
  size_t first, plane_size;

  template <int kVectors>
  CodedColumns<kKind, kVectors> at(size_t vector) const {
    using Columns = CodedColumns<kKind, kVectors>;
    const size_t scale = first * rows.scale_stride;
    return {rows.data + first * rows.row_bytes + vector / Columns::kPlanes * kLanes,
            rows.scales + scale,
            rows.offsets ? rows.offsets + scale : &kNoOffset,
            rows.row_bytes,
            rows.scale_stride,
            rows.offsets ? rows.scale_stride : 0,
            plane_size,
            static_cast<int>(vector % Columns::kPlanes)};
  }
  size_t start(size_t vector) const {
    constexpr size_t kPlanes = CodedColumns<kKind, 1>::kPlanes;
    return vector % kPlanes * plane_size + vector / kPlanes * kLanes;
  }
};

}  // namespace

#endif
