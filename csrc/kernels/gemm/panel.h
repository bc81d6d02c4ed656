// The sections of one panel (ferrule_panel_layout), for kernels. Internal linkage.
#ifndef FERRULE_KERNELS_GEMM_PANEL_H
#define FERRULE_KERNELS_GEMM_PANEL_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/gemm.h"

namespace {

struct Panel {
  const uint8_t* codes;
  const uint16_t* group_scales;  // bfloat16
  const float* scales;
  const void* sums;
  const float* bias;
  const void* tables;
  size_t first;  // output feature of the first column
  size_t count;  // columns that exist
};

inline Panel panel_at(const ferrule_gemm_args& args, size_t index) {
  const ferrule_panel_layout& layout = args.layout;
  const auto* bytes = static_cast<const uint8_t*>(args.packed) + index * layout.bytes;
  const size_t first = index * layout.columns, rest = args.n - first;
  return {bytes,
          reinterpret_cast<const uint16_t*>(bytes + layout.group_scales),
          reinterpret_cast<const float*>(bytes + layout.scales),
          bytes + layout.sums,
          reinterpret_cast<const float*>(bytes + layout.bias),
          bytes + layout.tables,
          first,
          rest < layout.columns ? rest : layout.columns};
}

// Asks for the lines of the output that a tile will write.
[[maybe_unused]] void fetch_output(const ferrule_gemm_args& args, const Panel& panel, size_t first,
                                   size_t rows) {
  const size_t element = args.epilogue.output_scale == 0 ? sizeof(float) : 1;
  for (size_t r = first; r < first + rows; ++r) {
    const char* line =
        static_cast<const char*>(args.output) + (r * args.output_stride + panel.first) * element;
    for (size_t i = 0; i < panel.count * element; i += 64) __builtin_prefetch(line + i, 1);
  }
}

}  // namespace

#endif
