// Pooling over the names of simd/README.md; included by the file of each instruction set.

namespace {

// NaN in either is NaN in the result.
inline F32 take_larger(F32 best, F32 x) { return keep_nan(best, max(best, x)); }

// What is known of a window before its pixels are read.
struct Window {
  const float* first;  // pixel of the first tap within the image
  size_t rows, columns;
  size_t row_step, column_step;  // elements from tap to tap
  float factor;                  // of the sum
};

float factor_of(const ferrule_pooling_args& args, const Taps& rows, const Taps& columns) {
  const size_t inside = (rows.last - rows.first) * (columns.last - columns.first);
  const size_t count = args.count_padding ? rows.padded * columns.padded : inside;
  return count ? 1 / static_cast<float>(count) : 0;
}

template <bool kAverages>
inline F32 combine(F32 sum, F32 x) {
  return kAverages ? add(sum, x) : take_larger(sum, x);
}

template <bool kAverages>
inline F32 finish(F32 sum, float factor) {
  return kAverages ? mul(sum, splat(factor)) : sum;
}

// The channels of one output, four vectors of them at a time.
template <bool kAverages>
void pool_channels(const Window& window, float* output, size_t channels) {
  const F32 none = splat(kAverages ? 0 : -HUGE_VALF);
  size_t c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes) {
    F32 a = none, b = none, d = none, e = none;
    for (size_t i = 0; i < window.rows; ++i) {
      const float* p = window.first + i * window.row_step + c;
      for (size_t j = 0; j < window.columns; ++j, p += window.column_step) {
        a = combine<kAverages>(a, load(p));
        b = combine<kAverages>(b, load(p + kLanes));
        d = combine<kAverages>(d, load(p + 2 * kLanes));
        e = combine<kAverages>(e, load(p + 3 * kLanes));
      }
    }
    store(output + c, finish<kAverages>(a, window.factor));
    store(output + c + kLanes, finish<kAverages>(b, window.factor));
    store(output + c + 2 * kLanes, finish<kAverages>(d, window.factor));
    store(output + c + 3 * kLanes, finish<kAverages>(e, window.factor));
  }
  for_vectors(channels - c, [&](size_t k, size_t count) {
    F32 sum = none;
    for (size_t i = 0; i < window.rows; ++i) {
      const float* p = window.first + i * window.row_step + c + k;
      for (size_t j = 0; j < window.columns; ++j, p += window.column_step)
        sum = combine<kAverages>(sum, load_some(p, count));
    }
    store_some(output + c + k, finish<kAverages>(sum, window.factor), count);
  });
}

template <bool kAverages>
void pool_last(const ferrule_pooling_args& args, size_t unit) {
  const ferrule_window& w = args.window;
  const size_t image = unit / w.out_height;
  const Taps rows = find_taps(vertical(args), unit % w.out_height);
  const size_t row = w.in_width * args.input_stride;
  for (size_t x = 0; x < w.out_width; ++x) {
    const Taps columns = find_taps(horizontal(args), x);
    Window window = {args.input,
                     rows.last - rows.first,
                     columns.last - columns.first,
                     w.dilation_height * row,
                     w.dilation_width * args.input_stride,
                     factor_of(args, rows, columns)};
    if (window.rows && window.columns)
      window.first += (image * w.in_height + rows.start) * row + columns.start * args.input_stride;
    pool_channels<kAverages>(window, args.output + (unit * w.out_width + x) * args.output_stride,
                             args.channels);
  }
}

// kLanes neighbours of a row, kStride apart; all but the last of 2 * kLanes values are needed where that
// is 2.
template <size_t kStride>
inline F32 load_apart(const float* p) {
  return kStride == 1 ? load(p) : load_pairs(p).first;
}

struct Span {
  size_t first, last;
};

// The outputs of a row that can be computed kLanes at a time: whose windows lie within the image, as does all
// that load_apart reads; none where they are fewer than that.
template <size_t kStride>
Span find_whole(const ferrule_window& w) {
  const size_t reach = (w.kernel_width - 1) * w.dilation_width + kStride * kLanes;
  if (kStride == 0 || w.in_width + w.pad_left < reach) return {0, 0};
  const size_t first = (w.pad_left + w.stride_width - 1) / w.stride_width;
  size_t last = (w.in_width + w.pad_left - reach) / w.stride_width + kLanes;
  if (last > w.out_width) last = w.out_width;
  return last < first + kLanes ? Span{0, 0} : Span{first, last};
}

// Outputs [x, x + kLanes) of a row whose windows all lie within the image.
template <bool kAverages, size_t kStride>
F32 pool_columns(const Window& window) {
  F32 sum = splat(kAverages ? 0 : -HUGE_VALF);
  for (size_t i = 0; i < window.rows; ++i) {
    const float* p = window.first + i * window.row_step;
    for (size_t j = 0; j < window.columns; ++j, p += window.column_step)
      sum = combine<kAverages>(sum, load_apart<kStride>(p));
  }
  return finish<kAverages>(sum, window.factor);
}

// The sum of `length` neighbours.
float add_run(const float* p, size_t length) {
  F32 sum = zeros();
  for_vectors(length, [&](size_t i, size_t count) { sum = add(sum, load_some(p + i, count)); });
  return sum_lanes(sum);
}

// One output by itself.
template <bool kAverages>
float pool_one(const Window& window) {
  const bool dense = window.column_step == 1 && window.row_step == window.columns;
  if (dense && kAverages) return add_run(window.first, window.rows * window.columns) * window.factor;
  float result = kAverages ? 0 : -HUGE_VALF;
  bool is_nan = false;
  for (size_t i = 0; i < window.rows; ++i) {
    const float* p = window.first + i * window.row_step;
    for (size_t j = 0; j < window.columns; ++j, p += window.column_step) {
      if (kAverages) {
        result += *p;
      } else {
        result = *p > result ? *p : result;
        is_nan |= *p != *p;
      }
    }
  }
  return kAverages ? result * window.factor : is_nan ? NAN : result;
}

// A row with channels first: kLanes outputs at once where their windows are whole, one by one at the edges.
template <bool kAverages, size_t kStride>
void pool_first(const ferrule_pooling_args& args, size_t unit) {
  const ferrule_window& w = args.window;
  const Taps rows = find_taps(vertical(args), unit % w.out_height);
  const float* image =
      args.input +
      (unit / w.out_height * w.in_height + (rows.last > rows.first ? rows.start : 0)) * w.in_width;
  float* output = args.output + unit * w.out_width;
  const Span whole = find_whole<kStride>(w);
  for (size_t x = 0; x < w.out_width;) {
    const bool vectors = x >= whole.first && x < whole.last;
    // The last vector of outputs goes back over some of those before it.
    if (vectors && x + kLanes > whole.last) x = whole.last - kLanes;
    const Taps columns = find_taps(horizontal(args), x);
    const Window window = {image + (columns.last > columns.first ? columns.start : 0),
                           rows.last - rows.first,
                           columns.last - columns.first,
                           w.dilation_height * w.in_width,
                           w.dilation_width,
                           factor_of(args, rows, columns)};
    if (vectors) {
      store(output + x, pool_columns<kAverages, kStride>(window));
      x += kLanes;
    } else {
      output[x++] = pool_one<kAverages>(window);
    }
  }
}

template <bool kAverages>
void pool_rows(const ferrule_pooling_args& args, size_t begin, size_t end) {
  auto* pool = pool_last<kAverages>;
  if (args.layout == FERRULE_CHANNELS_FIRST) {
    pool = pool_first<kAverages, 0>;
    if (args.window.stride_width == 1) pool = pool_first<kAverages, 1>;
    if (args.window.stride_width == 2) pool = pool_first<kAverages, 2>;
  }
  for (size_t unit = begin; unit < end; ++unit) pool(args, unit);
}

void pooling_rows(const ferrule_pooling_args& args, size_t begin, size_t end) {
  if (args.kind == FERRULE_POOLING_AVERAGE) return pool_rows<true>(args, begin, end);
  pool_rows<false>(args, begin, end);
}

}  // namespace
