// Where the parts of packed depthwise weights and of the kernels' scratch memory lie; see
// ferrule/conv_depthwise_i8.h.
#ifndef FERRULE_KERNELS_CONV_DEPTHWISE_I8_PACKED_H
#define FERRULE_KERNELS_CONV_DEPTHWISE_I8_PACKED_H

#include "ferrule/conv_depthwise_i8.h"

namespace {

constexpr uint32_t kDepthwiseMagic = 0x38574446;  // "FDW8"
constexpr uint32_t kDepthwiseVersion = 1;
constexpr size_t kDepthwiseHeader = 64;

struct DepthwiseHeader {
  uint32_t magic, version;
  uint64_t kernel_height, kernel_width, channels;
};

struct DepthwiseLayout {
  size_t along;                      // taps that quads are cut from
  size_t across;                     // taps that the others of a kernel follow each other by
  size_t shifts;                     // 2 where quads go down, else 1
  size_t groups;                     // quads to `along` taps moved by shifts - 1
  size_t padded;                     // channels
  size_t sums, scales, bias, bytes;  // offsets

  // Quads of all channels.
  size_t quad(size_t shift, size_t group, size_t tap) const {
    return kDepthwiseHeader + ((shift * groups + group) * across + tap) * padded * 4;
  }
};

inline DepthwiseLayout lay_out_depthwise(size_t kernel_height, size_t kernel_width, size_t channels) {
  DepthwiseLayout layout = {};
  const bool down = kernel_height > 1;
  layout.along = down ? kernel_height : kernel_width;
  layout.across = down ? kernel_width : 1;
  layout.shifts = down ? 2 : 1;
  layout.groups = (layout.along + layout.shifts + 2) / 4;
  layout.padded = (channels + 15) / 16 * 16;
  layout.sums = layout.quad(layout.shifts, 0, 0);
  layout.scales = layout.sums + layout.padded * sizeof(int32_t);
  layout.bias = layout.scales + layout.padded * sizeof(float);
  layout.bytes = layout.bias + layout.padded * sizeof(float);
  return layout;
}

// Kernels interleave the inputs of at most kStrip neighbouring outputs at a time, kMostColumnBytes or less of
// a column.
constexpr size_t kStrip = 64;
constexpr size_t kMostColumnBytes = 256;

inline size_t count_strip_columns(const ferrule_window& window) {
  const size_t across = window.kernel_height > 1 ? window.kernel_width : 1;
  return (kStrip - 1) * window.stride_width + (across - 1) * window.dilation_width + 1;
}

}  // namespace

#endif
