#include "kernels/declarations.h"

namespace {

size_t read_index(const ferrule_embedding_args& args, size_t n) {
  if (args.index_bytes == 4) return static_cast<size_t>(static_cast<const int32_t*>(args.indices)[n]);
  return static_cast<size_t>(static_cast<const int64_t*>(args.indices)[n]);
}

int read_nibble(const ferrule_embedding_args& args, size_t row, size_t i) {
  return static_cast<const uint8_t*>(args.table)[row * ((args.width + 1) / 2) + i / 2] >> (i % 2 * 4) & 15;
}

// Element (row, i) without its scale.
float decode(const ferrule_embedding_args& args, size_t row, size_t i) {
  const auto* bytes = static_cast<const uint8_t*>(args.table);
  const size_t palette = args.palette_rows ? row / args.palette_rows : 0;
  switch (args.kind) {
    case FERRULE_EMBEDDING_F32:
      return static_cast<const float*>(args.table)[row * args.width + i];
    case FERRULE_EMBEDDING_I8:
      return static_cast<float>(static_cast<int8_t>(bytes[row * args.width + i]));
    case FERRULE_EMBEDDING_I4:
      return static_cast<float>((read_nibble(args, row, i) ^ 8) - 8);
    case FERRULE_EMBEDDING_LUT4:
      return args.palettes[palette * 16 + static_cast<size_t>(read_nibble(args, row, i))];
  }
  const int code = bytes[row * ((args.width + 3) / 4) + i / 4] >> (i % 4 * 2) & 3;
  return args.palettes[palette * 4 + static_cast<size_t>(code)];
}

float scale_of(const ferrule_embedding_args& args, size_t row, size_t i) {
  if (args.kind == FERRULE_EMBEDDING_F32) return args.output_scale;
  if (args.kind == FERRULE_EMBEDDING_I8 || args.kind == FERRULE_EMBEDDING_I4) {
    const size_t group = args.group ? args.group : args.width;
    return args.output_scale * args.scales[row * ((args.width + group - 1) / group) + i / group];
  }
  return args.scales ? args.output_scale * args.scales[row] : args.output_scale;
}

}  // namespace

void ferrule_embedding_scalar(const ferrule_embedding_args* args, size_t begin, size_t end, void*) {
  for (size_t n = begin; n < end; ++n) {
    const size_t row = read_index(*args, n);
    float* output = args->output + n * args->output_stride;
    for (size_t i = 0; i < args->width; ++i) output[i] = decode(*args, row, i) * scale_of(*args, row, i);
  }
}
