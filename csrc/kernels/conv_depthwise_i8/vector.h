// Depthwise convolution of codes, over the names of simd/README.md and those that the file of each
// instruction set states before it includes this one:
//
//   I32           kLanes sums
//   Taps          quads of weights of kLanes channels;   Taps load_taps(const int8_t*)
//   Quads         quads of inputs of kLanes channels;    Quads load_quads(const char*)
//   kQuadBytes    how many bytes of scratch memory a Quads takes
//   kSignedInput  whether the inputs of a quad are signed
//   kTile         outputs, a multiple of 4, whose sums for two rows fit the registers
//   void store_quads(char* at, const uint8_t* const sources[4], size_t count, uint8_t flip)
//                 interleaves 4 * kLanes channels of four inputs, of which `count` exist, after exclusive or
//                 with `flip`
//   I32 dot(I32 sums, Quads, Taps), I32 multiply(I32, I32), I32 splat_i32(int32_t)
//   I32 load_i32(const int32_t*), F32 to_float(I32)
//   void store_codes(int8_t* output, size_t stride, const F32 (&y)[4], Bounds, size_t outputs, size_t count)
//                 rounds, saturates, bounds, and writes `count` channels of `outputs` pixels

namespace {

constexpr size_t kChunk = 4 * kLanes;            // channels that are interleaved at a time
constexpr size_t kColumnBytes = 4 * kQuadBytes;  // which they take

// The inputs that one place of a quad takes, from the first column of the strip on.
struct Source {
  const uint8_t* first;  // where column 0 would lie, at the channel
  size_t step;           // bytes from column to column
  size_t begin, end;     // columns that are no padding
};

struct Strip {
  const ferrule_conv_depthwise_i8_args& args;
  const DepthwiseLayout& layout;
  const char* packed;
  char* quads;     // [groups][columns][kColumnBytes]
  size_t columns;  // room of a group in `quads`
  size_t row;      // first output row
  size_t x;        // first output
  size_t outputs;
  size_t c, count;  // channels
};

// The zero point as kernels see it, whose inputs may have the other signedness.
int32_t shift_zero(const ferrule_conv_depthwise_i8_args& args) {
  const bool is_signed = args.input_is_signed != 0;
  return is_signed == kSignedInput ? args.input_zero : args.input_zero + (is_signed ? 128 : -128);
}

Source find_source(const Strip& strip, size_t tap, size_t used, const uint8_t* padding) {
  const ferrule_conv_depthwise_i8_args& args = strip.args;
  const ferrule_window& w = args.window;
  const bool down = strip.layout.shifts == 2;
  const size_t y =
      strip.row % w.out_height * w.stride_height - w.pad_top + (down ? tap * w.dilation_height : 0);
  if (y >= w.in_height || w.in_width == 0) return {padding, 0, 0, used};
  // Column b of the strip is column b - before of the image.
  const size_t before = w.pad_left - strip.x * w.stride_width - (down ? 0 : tap * w.dilation_width);
  const bool reaches_left = static_cast<ptrdiff_t>(before) > 0;
  const size_t begin = reaches_left ? before : 0, end = w.in_width + before;
  const size_t image = strip.row / w.out_height * w.in_height;
  const uintptr_t first = reinterpret_cast<uintptr_t>(args.input) + strip.c +
                          ((image + y) * w.in_width - before) * args.input_stride;
  const size_t stop = static_cast<ptrdiff_t>(end) < static_cast<ptrdiff_t>(begin) ? begin : end;
  return {reinterpret_cast<const uint8_t*>(first), args.input_stride, begin, stop};
}

// Interleaves the inputs of the strip for quad `group`.
void gather_quads(const Strip& strip, size_t group, size_t used, const uint8_t* padding, uint8_t flip) {
  Source sources[4];
  size_t begin = 0, end = used;  // columns where no source is padding
  for (size_t j = 0; j < 4; ++j) {
    const size_t tap = group * 4 + j;
    const bool exists = tap < strip.layout.along + strip.layout.shifts - 1;
    sources[j] = exists ? find_source(strip, tap, used, padding) : Source{padding, 0, 0, used};
    if (sources[j].begin > begin) begin = sources[j].begin;
    if (sources[j].end < end) end = sources[j].end;
  }
  char* at = strip.quads + group * strip.columns * kColumnBytes;
  for (size_t b = 0; b < used; ++b, at += kColumnBytes) {
    const uint8_t* inputs[4];
    const bool inside = b >= begin && b < end;
    for (size_t j = 0; j < 4; ++j) {
      const Source& s = sources[j];
      inputs[j] = inside || (b >= s.begin && b < s.end) ? s.first + b * s.step : padding;
    }
    store_quads(at, inputs, strip.count, flip);
  }
}

// kRows rows of kTile outputs, of kLanes channels, from the sums on.
template <size_t kRows>
__attribute__((noinline)) void finish_tile(const Strip& strip, const float* values, size_t x, size_t c,
                                           size_t count) {
  const ferrule_conv_depthwise_i8_args& args = strip.args;
  const ferrule_epilogue& epilogue = args.epilogue;
  const size_t rest = strip.outputs - x, outputs = rest < kTile ? rest : kTile;
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t t = 0; t < outputs; ++t) {
      const size_t pixel = (strip.row + r) * args.window.out_width + strip.x + x + t;
      F32 y = activate(epilogue.activation, load(values + (r * kTile + t) * kLanes));
      if (epilogue.residual) {
        y = add(y, load_some(epilogue.residual + pixel * epilogue.residual_stride + c, count));
      }
      if (epilogue.output_scale == 0) {
        store_some(static_cast<float*>(args.output) + pixel * args.output_stride + c, y, count);
        continue;
      }
      const F32 zero = splat(static_cast<float>(epilogue.output_zero));
      const F32 codes[4] = {add(round_even(div(y, splat(epilogue.output_scale))), zero), zero, zero, zero};
      store_codes(static_cast<int8_t*>(args.output) + pixel * args.output_stride + c, args.output_stride,
                  codes, {-128, splat(127)}, 1, count);
    }
  }
}

template <size_t kRows>
void convolve_tile(const Strip& strip, size_t x, size_t v) {
  const ferrule_conv_depthwise_i8_args& args = strip.args;
  const ferrule_window& window = args.window;
  const DepthwiseLayout& layout = strip.layout;
  const size_t c = strip.c + v * kLanes, rest = args.channels - c, count = rest < kLanes ? rest : kLanes;
  const I32 zero = splat_i32(-shift_zero(args));
  const I32 start =
      multiply(zero, load_i32(reinterpret_cast<const int32_t*>(strip.packed + layout.sums) + c));
  I32 sums[kRows][kTile];
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (size_t t = 0; t < kTile; ++t) sums[r][t] = start;
  }
  const size_t groups = (layout.along + kRows + 2) / 4;
  const size_t step = window.stride_width * kColumnBytes;
  for (size_t g = 0; g < groups; ++g) {
    const char* quads =
        strip.quads + (g * strip.columns + x * window.stride_width) * kColumnBytes + v * kQuadBytes;
    const char* far =
        quads + 4 * step;  // a pointer of its own, lest each output takes a register for its place
    for (size_t j = 0; j < layout.across; ++j) {
      const auto* weights = reinterpret_cast<const int8_t*>(strip.packed) + c * 4;
      const Taps first = load_taps(weights + layout.quad(0, g, j));
      const Taps second = kRows == 2 ? load_taps(weights + layout.quad(kRows - 1, g, j)) : first;
#pragma GCC unroll 8
      for (size_t t = 0; t < kTile; ++t) {
        const Quads inputs = load_quads((t < 4 ? quads : far) + t % 4 * step);
        sums[0][t] = dot(sums[0][t], inputs, first);
        if (kRows == 2) sums[kRows - 1][t] = dot(sums[kRows - 1][t], inputs, second);
      }
      quads += window.dilation_width * kColumnBytes;
      far += window.dilation_width * kColumnBytes;
    }
  }

  const ferrule_epilogue& epilogue = args.epilogue;
  const float* scales = reinterpret_cast<const float*>(strip.packed + layout.scales) + c;
  const float* bias = reinterpret_cast<const float*>(strip.packed + layout.bias) + c;
  F32 factor = mul(load(scales), splat(args.input_scale)), offset = load(bias);
  if (epilogue.output_scale == 0 || epilogue.residual || !is_bounds(epilogue.activation)) {
    float values[kRows * kTile * kLanes];
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (size_t t = 0; t < kTile; ++t) {
        store(values + (r * kTile + t) * kLanes, fma(to_float(sums[r][t]), factor, offset));
      }
    }
    return finish_tile<kRows>(strip, values, x, c, count);
  }
  // Codes go from sums to bytes without leaving the registers.
  const F32 inverse = splat(1 / epilogue.output_scale);
  factor = mul(factor, inverse);
  offset = fma(offset, inverse, splat(static_cast<float>(epilogue.output_zero)));
  const Bounds bounds = bound_codes(epilogue);
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
    const size_t pixel = (strip.row + r) * window.out_width + strip.x + x;
    auto* output = static_cast<int8_t*>(args.output) + pixel * args.output_stride + c;
#pragma GCC unroll 2
    for (size_t t = 0; t < kTile; t += 4) {
      if (x + t >= strip.outputs) break;
      F32 y[4];
#pragma GCC unroll 4
      for (size_t i = 0; i < 4; ++i) y[i] = fma(to_float(sums[r][t + i]), factor, offset);
      store_codes(output + t * args.output_stride, args.output_stride, y, bounds, strip.outputs - x - t,
                  count);
    }
  }
}

template <size_t kRows>
void convolve_strip(Strip strip, const uint8_t* padding, uint8_t flip) {
  const ferrule_window& window = strip.args.window;
  const size_t used =
      (strip.outputs - 1) * window.stride_width + (strip.layout.across - 1) * window.dilation_width + 1;
  const size_t groups = (strip.layout.along + kRows + 2) / 4;
  for (; strip.c < strip.args.channels; strip.c += kChunk) {
    const size_t rest = strip.args.channels - strip.c;
    strip.count = rest < kChunk ? rest : kChunk;
    for (size_t g = 0; g < groups; ++g) gather_quads(strip, g, used, padding, flip);
    for (size_t v = 0; v * kLanes < strip.count; ++v) {
      for (size_t x = 0; x < strip.outputs; x += kTile) convolve_tile<kRows>(strip, x, v);
    }
  }
}

void convolve_depthwise_codes(const ferrule_conv_depthwise_i8_args& args, size_t begin, size_t end,
                              void* scratch) {
  const ferrule_window& window = args.window;
  const DepthwiseLayout layout = lay_out_depthwise(window.kernel_height, window.kernel_width, args.channels);
  // The zero point, so that padding adds nothing once the zero point's share is taken off.
  uint8_t padding[kChunk];
  for (uint8_t& code : padding) code = static_cast<uint8_t>(args.input_zero);
  const uint8_t flip = (args.input_is_signed != 0) == kSignedInput ? 0 : 0x80;
  const bool pairs = layout.shifts == 2 && window.stride_height == 1 && window.dilation_height == 1;
  Strip strip = {args,
                 layout,
                 static_cast<const char*>(args.packed),
                 static_cast<char*>(scratch),
                 count_strip_columns(window),
                 begin,
                 0,
                 0,
                 0,
                 0};
  while (strip.row < end) {
    const bool pair = pairs && end - strip.row > 1 && strip.row % window.out_height + 1 < window.out_height;
    for (strip.x = 0; strip.x < window.out_width; strip.x += kStrip) {
      const size_t rest = window.out_width - strip.x;
      strip.outputs = rest < kStrip ? rest : kStrip;
      if (pair)
        convolve_strip<2>(strip, padding, flip);
      else
        convolve_strip<1>(strip, padding, flip);
    }
    strip.row += pair ? 2 : 1;
  }
}

}  // namespace
