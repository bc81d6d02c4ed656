// Which taps of a pooling window lie within the image; for the kernels of pooling and pooling_i8.
#ifndef FERRULE_KERNELS_POOLING_TAPS_H
#define FERRULE_KERNELS_POOLING_TAPS_H

#include <stddef.h>

namespace {

// One dimension of a window.
struct Taps {
  size_t first, last;  // taps [first, last) lie within the image
  size_t start;        // where the first of them lies; not read where there is none
  size_t padded;       // how many lie within the image and its padding
};

struct Dimension {
  size_t input, kernel, stride, dilation, pad_before, pad_after;
};

// A division is dear, and most windows are dense.
inline size_t divide_up(size_t n, size_t dilation) {
  return dilation == 1 ? n : (n + dilation - 1) / dilation;
}

inline Taps find_taps(const Dimension& d, size_t output) {
  const size_t at = output * d.stride;  // of tap 0, counted from where the padding begins
  Taps taps = {0, 0, 0, 0};
  if (at < d.pad_before) taps.first = divide_up(d.pad_before - at, d.dilation);
  const size_t end = d.pad_before + d.input;
  taps.last = at < end ? divide_up(end - at, d.dilation) : 0;
  if (taps.last > d.kernel) taps.last = d.kernel;
  if (taps.first > taps.last) taps.first = taps.last;
  taps.start = at + taps.first * d.dilation - d.pad_before;
  const size_t padded_end = end + d.pad_after;
  if (at < padded_end) taps.padded = padded_end - at < d.kernel ? padded_end - at : d.kernel;
  return taps;
}

template <typename Args>
inline Dimension vertical(const Args& args) {
  const ferrule_window& w = args.window;
  return {w.in_height, w.kernel_height, w.stride_height, w.dilation_height, w.pad_top, args.pad_bottom};
}

template <typename Args>
inline Dimension horizontal(const Args& args) {
  const ferrule_window& w = args.window;
  return {w.in_width, w.kernel_width, w.stride_width, w.dilation_width, w.pad_left, args.pad_right};
}

}  // namespace

#endif
