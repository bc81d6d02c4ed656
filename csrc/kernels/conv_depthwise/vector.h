// Depthwise convolution over the names of simd/README.md; included by the file of each instruction set.
//
// A tile is kTile neighbouring outputs of one vector of channels, whose sums stay in registers. Where the
// kernel's width and stride are known at compile time, each input column of the tile is loaded once and
// multiplied into all the outputs that see it; so a row of a 3-wide kernel takes 9 loads of input for 21
// products. Columns and rows that are padding are skipped.

namespace {

constexpr size_t kTile = 7;  // divides 7, 14, 28, 56 and 112, the usual widths of feature maps
constexpr size_t kBlockBytes =
    256 * 1024;  // of input, to stay in a second-level cache while channels take turns

struct Place {
  const float* image;   // at the channel
  const float* weight;  // at the channel
  size_t count;         // channels of the vector
  size_t top, left;     // input row and column of the tile's first tap; wrapped around where they are padding
};

template <bool kWhole>
inline F32 load_channels(const float* p, size_t count) {
  return kWhole ? load(p) : load_first(p, count);
}

// One row of taps, of a kernel kWidth wide, dense, that moves by kStride.
template <bool kWhole, size_t kWidth, size_t kStride>
__attribute__((always_inline)) inline void add_row(F32 (&sums)[kTile],
                                                   const ferrule_conv_depthwise_args& args,
                                                   const Place& place, const float* row,
                                                   const float* weight) {
  F32 taps[kWidth];
#pragma GCC unroll 7
  for (size_t j = 0; j < kWidth; ++j)
    taps[j] = load_channels<kWhole>(weight + j * args.channels, place.count);
#pragma GCC unroll 19
  for (size_t i = 0; i < (kTile - 1) * kStride + kWidth; ++i) {
    const size_t column = place.left + i;
    if (column >= args.window.in_width) continue;
    const F32 x = load_channels<kWhole>(row + column * args.input_stride, place.count);
#pragma GCC unroll 7
    for (size_t j = 0; j < kWidth; ++j) {
      const size_t t = (i - j) / kStride;
      if (i >= j && (i - j) % kStride == 0 && t < kTile) sums[t] = fma(x, taps[j], sums[t]);
    }
  }
}

// One row of taps of any kernel.
template <bool kWhole>
__attribute__((always_inline)) inline void add_any_row(F32 (&sums)[kTile],
                                                       const ferrule_conv_depthwise_args& args,
                                                       const Place& place, const float* row,
                                                       const float* weight) {
  const ferrule_window& window = args.window;
  for (size_t j = 0; j < window.kernel_width; ++j) {
    const F32 tap = load_channels<kWhole>(weight + j * args.channels, place.count);
    const size_t first = place.left + j * window.dilation_width;
#pragma GCC unroll 7
    for (size_t t = 0; t < kTile; ++t) {
      const size_t column = first + t * window.stride_width;
      if (column >= window.in_width) continue;
      sums[t] = fma(load_channels<kWhole>(row + column * args.input_stride, place.count), tap, sums[t]);
    }
  }
}

void finish_outputs(const ferrule_conv_depthwise_args& args, const float* sums, size_t pixel, size_t outputs,
                    size_t c, size_t count) {
  for (size_t t = 0; t < outputs; ++t) {
    F32 y = activate(args.activation, load(sums + t * kLanes));
    if (args.residual) y = add(y, load_some(args.residual + (pixel + t) * args.residual_stride + c, count));
    store_some(args.output + (pixel + t) * args.output_stride + c, y, count);
  }
}

// The outputs [pixel, pixel + outputs) of one row, channels from c on.
template <bool kWhole, size_t kWidth, size_t kStride>
void convolve_tile(const ferrule_conv_depthwise_args& args, const Place& place, size_t pixel, size_t outputs,
                   size_t c) {
  const ferrule_window& window = args.window;
  F32 sums[kTile];
  const F32 bias = args.bias ? load_channels<kWhole>(args.bias + c, place.count) : zeros();
#pragma GCC unroll 7
  for (size_t t = 0; t < kTile; ++t) sums[t] = bias;
  for (size_t i = 0; i < window.kernel_height; ++i) {
    const size_t y = place.top + i * window.dilation_height;
    if (y >= window.in_height) continue;
    const float* row = place.image + y * window.in_width * args.input_stride;
    const float* weight = place.weight + i * window.kernel_width * args.channels;
    if constexpr (kWidth == 0)
      add_any_row<kWhole>(sums, args, place, row, weight);
    else
      add_row<kWhole, kWidth, kStride>(sums, args, place, row, weight);
  }
  const bool direct = !args.residual && args.activation <= FERRULE_ACTIVATION_RELU;
  if (!direct) {
    float kept[kTile * kLanes];
#pragma GCC unroll 7
    for (size_t t = 0; t < kTile; ++t) store(kept + t * kLanes, sums[t]);
    return finish_outputs(args, kept, pixel, outputs, c, place.count);
  }
  const F32 lowest = splat(args.activation == FERRULE_ACTIVATION_RELU ? 0 : -HUGE_VALF);
  float* output = args.output + pixel * args.output_stride + c;
#pragma GCC unroll 7
  for (size_t t = 0; t < kTile; ++t) {
    if (t >= outputs) break;
    const F32 y = max(lowest, sums[t]);
    if (kWhole)
      store(output + t * args.output_stride, y);
    else
      store_first(output + t * args.output_stride, y, place.count);
  }
}

// Output rows [begin, end), channels [c, c + count).
template <bool kWhole, size_t kWidth, size_t kStride>
void convolve_channels(const ferrule_conv_depthwise_args& args, size_t begin, size_t end, size_t c,
                       size_t count) {
  const ferrule_window& window = args.window;
  for (size_t r = begin; r < end; ++r) {
    const size_t image = r / window.out_height * window.in_height * window.in_width;
    Place place = {args.input + image * args.input_stride + c, args.weight + c, count, 0, 0};
    place.top = r % window.out_height * window.stride_height - window.pad_top;
    for (size_t x = 0; x < window.out_width; x += kTile) {
      place.left = x * window.stride_width - window.pad_left;
      const size_t rest = window.out_width - x;
      convolve_tile<kWhole, kWidth, kStride>(args, place, r * window.out_width + x,
                                             rest < kTile ? rest : kTile, c);
    }
  }
}

template <size_t kWidth, size_t kStride>
void convolve_rows(const ferrule_conv_depthwise_args& args, size_t begin, size_t end) {
  const ferrule_window& window = args.window;
  const size_t row_bytes = (window.in_width * args.input_stride * window.stride_height + 1) * sizeof(float);
  const size_t block = kBlockBytes / row_bytes + 1;
  for (size_t r = begin; r < end; r += block) {
    const size_t stop = end - r < block ? end : r + block;
    size_t c = 0;
    for (; c + kLanes <= args.channels; c += kLanes) {
      convolve_channels<true, kWidth, kStride>(args, r, stop, c, kLanes);
    }
    if (c < args.channels) convolve_channels<false, kWidth, kStride>(args, r, stop, c, args.channels - c);
  }
}

void convolve_depthwise(const ferrule_conv_depthwise_args& args, size_t begin, size_t end) {
  const ferrule_window& window = args.window;
  const size_t width = window.dilation_width == 1 ? window.kernel_width : 0;
  const size_t stride = window.stride_width;
  if (width == 3 && stride == 1) return convolve_rows<3, 1>(args, begin, end);
  if (width == 3 && stride == 2) return convolve_rows<3, 2>(args, begin, end);
  if (width == 5 && stride == 1) return convolve_rows<5, 1>(args, begin, end);
  if (width == 5 && stride == 2) return convolve_rows<5, 2>(args, begin, end);
  if (width == 7 && stride == 1) return convolve_rows<7, 1>(args, begin, end);
  convolve_rows<0, 0>(args, begin, end);
}

}  // namespace
