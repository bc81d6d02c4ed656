// Embedding lookup over the names of simd/README.md and those of kernels/embedding/{avx2,avx512,neon}.cpp,
// which include this file: widen_i4, Codes, read_codes4, read_codes2, Palette, load_palette,
// look_up.

namespace {

size_t read_index(const ferrule_embedding_args& args, size_t n) {
  if (args.index_bytes == 4) return static_cast<size_t>(static_cast<const int32_t*>(args.indices)[n]);
  return static_cast<size_t>(static_cast<const int64_t*>(args.indices)[n]);
}

void decode_f32(const ferrule_embedding_args& args, size_t row, float* output) {
  const float* x = static_cast<const float*>(args.table) + row * args.width;
  const F32 scale = splat(args.output_scale);
  for_vectors(args.width, [&](size_t i, size_t count) {
    store_some(output + i, mul(load_some(x + i, count), scale), count);
  });
}

// `widen` gives kLanes codes from the i-th on, `read_one` a single one.
template <typename Widen, typename ReadOne>
void decode_groups(const ferrule_embedding_args& args, size_t row, float* output, Widen widen,
                   ReadOne read_one) {
  const size_t group = args.group ? args.group : args.width;
  const float* scales = args.scales + row * ((args.width + group - 1) / group);
  for (size_t begin = 0; begin < args.width; begin += group, ++scales) {
    const size_t end = args.width - begin < group ? args.width : begin + group;
    const float one_scale = args.output_scale * *scales;
    const F32 scale = splat(one_scale);
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) store(output + i, mul(widen(i), scale));
    for (; i < end; ++i) output[i] = read_one(i) * one_scale;
  }
}

void decode_i8(const ferrule_embedding_args& args, size_t row, float* output) {
  const int8_t* codes = static_cast<const int8_t*>(args.table) + row * args.width;
  decode_groups(
      args, row, output, [=](size_t i) { return load_codes(codes + i); },
      [=](size_t i) { return static_cast<float>(codes[i]); });
}

void decode_i4(const ferrule_embedding_args& args, size_t row, float* output) {
  const uint8_t* codes = static_cast<const uint8_t*>(args.table) + row * ((args.width + 1) / 2);
  decode_groups(
      args, row, output, [=](size_t i) { return widen_i4(codes + i / 2); },
      [=](size_t i) { return static_cast<float>(((codes[i / 2] >> (i % 2 * 4) & 15) ^ 8) - 8); });
}

template <size_t kBits, Codes read_codes(const uint8_t*)>
void decode_palette(const ferrule_embedding_args& args, size_t row, float* output) {
  constexpr size_t kEntries = size_t{1} << kBits, kPerByte = 8 / kBits;
  const uint8_t* codes =
      static_cast<const uint8_t*>(args.table) + row * ((args.width + kPerByte - 1) / kPerByte);
  const float* palette = args.palettes + (args.palette_rows ? row / args.palette_rows : 0) * kEntries;
  const float scale = args.scales ? args.output_scale * args.scales[row] : args.output_scale;
  float repeated[16];
  for (size_t e = 0; e < 16; ++e) repeated[e] = palette[e % kEntries] * scale;
  const Palette values = load_palette(repeated);
  size_t i = 0;
  for (; i + kLanes <= args.width; i += kLanes)
    store(output + i, look_up(values, read_codes(codes + i / kPerByte)));
  for (; i < args.width; ++i)
    output[i] = repeated[codes[i / kPerByte] >> (i % kPerByte * kBits) & (kEntries - 1)];
}

// Bytes of a row of the table.
size_t measure_row(const ferrule_embedding_args& args) {
  if (args.kind == FERRULE_EMBEDDING_F32) return args.width * sizeof(float);
  if (args.kind == FERRULE_EMBEDDING_I8) return args.width;
  return args.kind == FERRULE_EMBEDDING_LUT2 ? (args.width + 3) / 4 : (args.width + 1) / 2;
}

void fetch_row(const ferrule_embedding_args& args, size_t row, size_t bytes) {
  const char* first = static_cast<const char*>(args.table) + row * bytes;
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(first + i);
}

void embedding_rows(const ferrule_embedding_args& args, size_t begin, size_t end) {
  if (args.width == 0) return;
  auto* decode = decode_f32;
  if (args.kind == FERRULE_EMBEDDING_I8) decode = decode_i8;
  if (args.kind == FERRULE_EMBEDDING_I4) decode = decode_i4;
  if (args.kind == FERRULE_EMBEDDING_LUT4) decode = decode_palette<4, read_codes4>;
  if (args.kind == FERRULE_EMBEDDING_LUT2) decode = decode_palette<2, read_codes2>;
  const size_t bytes = measure_row(args);
  for (size_t n = begin; n < end; ++n) {
    if (n + 2 < end) fetch_row(args, read_index(args, n + 2), bytes);  // rows lie anywhere in a large table
    decode(args, read_index(args, n), args.output + n * args.output_stride);
  }
}

}  // namespace
