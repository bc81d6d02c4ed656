// Rows of a matrix out of what a window shows at neighbouring outputs (im2col).
#ifndef FERRULE_OPS_WINDOWS_H
#define FERRULE_OPS_WINDOWS_H

#include <stdint.h>

#include "ferrule/window.h"

namespace ferrule::ops {

struct WindowRows {
  const ferrule_window* window;
  const uint8_t* input;      // at the first channel of the group
  const uint8_t* input_end;  // of all images
  size_t pixel_bytes;        // from pixel to pixel
  size_t tap_bytes;          // of the channels of the group
  uint8_t padding;           // every byte of a tap outside the image, as the input has it
  uint8_t flip;              // exclusive or, for codes of the other signedness
  uint8_t* rows;
  size_t row_bytes;   // the taps of a window, then zeros
  size_t row_stride;  // from row to row, by choose_row_stride
};

// Bytes from row to row: some behind the row, which gather_windows may write, and an odd number of cache
// lines, so that the rows of a tile do not fall into the same sets.
size_t choose_row_stride(size_t row_bytes);

// Writes the rows of outputs [first, first + count) of image `image`.
void gather_windows(const WindowRows& rows, size_t image, size_t first, size_t count);

}  // namespace ferrule::ops

#endif
