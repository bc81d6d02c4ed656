// Pooling of codes over the names of simd/README.md and those of kernels/pooling_i8/{avx2,avx512,neon}.cpp,
// which include this file: Bytes, kBytes, load_bytes, store_bytes, splat_bytes, max_bytes.

namespace {

struct Window {
  const int8_t* first;  // pixel of the first tap within the image
  size_t rows, columns;
  size_t row_step, column_step;  // elements from tap to tap
  float padding;                 // sum of the codes of counted padding
  float count;
};

void take_maxima(const Window& window, int8_t* output, size_t channels) {
  size_t c = 0;
  for (; c + kBytes <= channels; c += kBytes) {
    Bytes best = splat_bytes(-128);
    for (size_t i = 0; i < window.rows; ++i) {
      const int8_t* p = window.first + i * window.row_step + c;
      for (size_t j = 0; j < window.columns; ++j, p += window.column_step)
        best = max_bytes(best, load_bytes(p));
    }
    store_bytes(output + c, best);
  }
  for (; c < channels; ++c) {
    int8_t best = -128;
    for (size_t i = 0; i < window.rows; ++i) {
      const int8_t* p = window.first + i * window.row_step + c;
      for (size_t j = 0; j < window.columns; ++j, p += window.column_step) best = *p > best ? *p : best;
    }
    output[c] = best;
  }
}

// Sums of codes are exact in float; the quotient is rounded as the definition's is, since a window has so few
// taps that no quotient lies within rounding of a middle.
void take_averages(const Window& window, int8_t* output, size_t channels) {
  const F32 padding = splat(window.padding), count = splat(window.count);
  size_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    F32 sum = padding;
    for (size_t i = 0; i < window.rows; ++i) {
      const int8_t* p = window.first + i * window.row_step + c;
      for (size_t j = 0; j < window.columns; ++j, p += window.column_step) sum = add(sum, load_codes(p));
    }
    store_codes(output + c, round_even(div(sum, count)), kLanes);
  }
  for (; c < channels; ++c) {
    float sum = window.padding;
    for (size_t i = 0; i < window.rows; ++i) {
      const int8_t* p = window.first + i * window.row_step + c;
      for (size_t j = 0; j < window.columns; ++j, p += window.column_step) sum += static_cast<float>(*p);
    }
    output[c] = static_cast<int8_t>(nearbyintf(sum / window.count));
  }
}

Window find_window(const ferrule_pooling_i8_args& args, size_t image, const Taps& rows, const Taps& columns) {
  const ferrule_window& w = args.window;
  const size_t row = w.in_width * args.input_stride;
  Window window = {args.input,
                   rows.last - rows.first,
                   columns.last - columns.first,
                   w.dilation_height * row,
                   w.dilation_width * args.input_stride,
                   0,
                   0};
  const size_t inside = window.rows * window.columns;
  if (inside) window.first += (image * w.in_height + rows.start) * row + columns.start * args.input_stride;
  size_t count = args.count_padding ? rows.padded * columns.padded : inside;
  if (count == 0) count = 1;  // nothing but padding: its code
  window.count = static_cast<float>(count);
  window.padding = static_cast<float>(static_cast<int64_t>(count - inside) * args.padding_code);
  return window;
}

void pooling_i8_rows(const ferrule_pooling_i8_args& args, size_t begin, size_t end) {
  const ferrule_window& w = args.window;
  const auto pool = args.kind == FERRULE_POOLING_AVERAGE ? take_averages : take_maxima;
  for (size_t unit = begin; unit < end; ++unit) {
    const Taps rows = find_taps(vertical(args), unit % w.out_height);
    for (size_t x = 0; x < w.out_width; ++x) {
      const Window window = find_window(args, unit / w.out_height, rows, find_taps(horizontal(args), x));
      pool(window, args.output + (unit * w.out_width + x) * args.output_stride, args.channels);
    }
  }
}

}  // namespace
