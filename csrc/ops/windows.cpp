#include "ops/windows.h"

#include <string.h>

namespace {

using ferrule::ops::WindowRows;

constexpr size_t kWord = 16;

// Neighbouring outputs of one row, [x, x + count), and where their rows start.
struct Run {
  size_t x, count;
  uint8_t* to;

  Run cut(size_t begin, size_t end, size_t stride) const {
    return {x + begin, end - begin, to + begin * stride};
  }
};

// kWords whole words of each piece, which may be more than the piece is long.
template <size_t kWords>
void copy_words(uint8_t* to, size_t to_step, const uint8_t* from, size_t from_step, size_t count) {
  for (size_t r = 0; r < count; ++r, to += to_step, from += from_step) memcpy(to, from, kWords * kWord);
}

// `count` pieces of `bytes`, whose sources end before `from_end`. Short ones are copied by whole words while
// there is something to read behind them, since calling memcpy would take longer than the copy.
void copy_pieces(uint8_t* to, size_t to_step, const uint8_t* from, size_t from_step, size_t bytes,
                 size_t count, const uint8_t* from_end) {
  using Copy = void(uint8_t*, size_t, const uint8_t*, size_t, size_t);
  static Copy* const kCopies[] = {copy_words<1>, copy_words<2>, copy_words<3>, copy_words<4>,
                                  copy_words<5>, copy_words<6>, copy_words<7>, copy_words<8>};
  const size_t words = (bytes + kWord - 1) / kWord;
  size_t done = 0;
  if (bytes > 0 && words <= sizeof(kCopies) / sizeof(kCopies[0])) {
    done = count;
    while (done > 0 && static_cast<size_t>(from_end - from) < (done - 1) * from_step + words * kWord) --done;
    kCopies[words - 1](to, to_step, from, from_step, done);
  }
  for (; done < count; ++done) memcpy(to + done * to_step, from + done * from_step, bytes);
}

// The outputs x of [0, count) for which start + x * stride lies within [0, size); `start` may have wrapped
// around.
struct Inside {
  size_t begin, end;
};

Inside find_inside(size_t start, size_t stride, size_t count, size_t size) {
  const size_t before = 0 - start;  // how far `start` lies left of the image, if it does
  const bool left = static_cast<ptrdiff_t>(start) < 0;
  size_t begin = left ? (before + stride - 1) / stride : 0;
  const size_t reach = left ? size + before : size > start ? size - start : 0;
  size_t end = (reach + stride - 1) / stride;
  if (end > count) end = count;
  if (begin > end) begin = end;
  return {begin, end};
}

void fill_pieces(const WindowRows& rows, Run run, size_t bytes) {
  for (size_t r = 0; r < run.count; ++r) memset(run.to + r * rows.row_stride, rows.padding, bytes);
}

// Tap j of a line of taps, for all outputs of the run.
void gather_tap(const WindowRows& rows, const uint8_t* line, size_t j, Run run) {
  const ferrule_window& w = *rows.window;
  run.to += j * rows.tap_bytes;
  const size_t column = run.x * w.stride_width - w.pad_left + j * w.dilation_width;
  const Inside inside = find_inside(column, w.stride_width, run.count, w.in_width);
  fill_pieces(rows, run.cut(0, inside.begin, rows.row_stride), rows.tap_bytes);
  fill_pieces(rows, run.cut(inside.end, run.count, rows.row_stride), rows.tap_bytes);
  if (inside.begin == inside.end) return;
  const uint8_t* from = line + (column + inside.begin * w.stride_width) * rows.pixel_bytes;
  copy_pieces(run.to + inside.begin * rows.row_stride, rows.row_stride, from,
              w.stride_width * rows.pixel_bytes, rows.tap_bytes, inside.end - inside.begin, rows.input_end);
}

void gather_taps(const WindowRows& rows, const uint8_t* line, Run run) {
  for (size_t j = 0; j < rows.window->kernel_width; ++j) gather_tap(rows, line, j, run);
}

// A line of taps. Where taps are neighbours in memory, too, the windows that lie within the image are copied
// whole.
void gather_line(const WindowRows& rows, const uint8_t* line, Run run) {
  const ferrule_window& w = *rows.window;
  const bool dense = w.dilation_width == 1 && rows.tap_bytes == rows.pixel_bytes;
  if (!dense || w.in_width < w.kernel_width) return gather_taps(rows, line, run);
  const size_t column = run.x * w.stride_width - w.pad_left;
  const Inside inside = find_inside(column, w.stride_width, run.count, w.in_width - w.kernel_width + 1);
  gather_taps(rows, line, run.cut(0, inside.begin, rows.row_stride));
  if (inside.begin < inside.end) {
    const uint8_t* from = line + (column + inside.begin * w.stride_width) * rows.pixel_bytes;
    copy_pieces(run.to + inside.begin * rows.row_stride, rows.row_stride, from,
                w.stride_width * rows.pixel_bytes, w.kernel_width * rows.tap_bytes, inside.end - inside.begin,
                rows.input_end);
  }
  gather_taps(rows, line, run.cut(inside.end, run.count, rows.row_stride));
}

// What copies wrote behind the taps becomes zero, and codes get the other signedness.
void finish_rows(const WindowRows& rows, Run run, size_t taps_bytes) {
  for (size_t r = 0; r < run.count; ++r) {
    uint8_t* row = run.to + r * rows.row_stride;
    if (rows.flip) {
      for (size_t i = 0; i < taps_bytes; ++i) row[i] ^= rows.flip;
    }
    for (size_t i = taps_bytes; i < rows.row_bytes; ++i) row[i] = 0;
  }
}

}  // namespace

size_t ferrule::ops::choose_row_stride(size_t row_bytes) { return ((row_bytes + kWord + 63) / 64 | 1) * 64; }

void ferrule::ops::gather_windows(const WindowRows& rows, size_t image, size_t first, size_t count) {
  const ferrule_window& w = *rows.window;
  const size_t line_bytes = w.in_width * rows.pixel_bytes, taps_bytes = w.kernel_width * rows.tap_bytes;
  const uint8_t* pixels = rows.input + image * w.in_height * line_bytes;
  Run run = {first % w.out_width, 0, rows.rows};
  for (size_t y = first / w.out_width; count > 0; ++y) {
    run.count = w.out_width - run.x < count ? w.out_width - run.x : count;
    for (size_t i = 0; i < w.kernel_height; ++i) {
      const size_t line = y * w.stride_height - w.pad_top + i * w.dilation_height;
      Run part = run;
      part.to += i * taps_bytes;
      if (line < w.in_height)
        gather_line(rows, pixels + line * line_bytes, part);
      else
        fill_pieces(rows, part, taps_bytes);
    }
    finish_rows(rows, run, w.kernel_height * taps_bytes);
    count -= run.count;
    run.to += run.count * rows.row_stride;
    run.x = 0;
  }
}
