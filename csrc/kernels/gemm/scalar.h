// The definition of the gemm kernels over panels of any layout; included by their scalar.cpp. Sums of codes
// are exact, all other sums in double.
#include <math.h>
#include <string.h>

#include "kernels/declarations.h"
#include "kernels/gemm/panel.h"
#include "kernels/scalar_activation.h"

namespace {

float read_bfloat16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  memcpy(&value, &wide, sizeof(value));
  return value;
}

// The bits of the code of weight [column][k], in the low end.
[[maybe_unused]] unsigned read_code(const ferrule_panel_layout& layout, const uint8_t* codes, size_t column,
                                    size_t k) {
  const size_t per_byte = 8 / layout.bits, step = k / layout.step;
  const size_t byte = (step / per_byte * layout.columns + column) * layout.step + k % layout.step;
  const size_t shift = step % per_byte * layout.bits;
  return codes[byte] >> shift & ((1u << layout.bits) - 1);
}

// A code of an Affine codec.
[[maybe_unused]] int read_signed_code(const ferrule_panel_layout& layout, const uint8_t* codes, size_t column,
                                      size_t k) {
  const int half = 1 << (layout.bits - 1);
  return (static_cast<int>(read_code(layout, codes, column, k)) ^ half) - half;
}

[[maybe_unused]] float read_group_scale(const ferrule_panel_layout& layout, const Panel& panel, size_t column,
                                        size_t k) {
  return layout.groups ? read_bfloat16(panel.group_scales[k / layout.group * layout.columns + column]) : 1;
}

// NaN becomes the zero point.
int8_t requantize(const ferrule_epilogue& epilogue, float y) {
  float code = rintf(y / epilogue.output_scale) + static_cast<float>(epilogue.output_zero);
  if (code != code) code = static_cast<float>(epilogue.output_zero);
  return static_cast<int8_t>(code < -128 ? -128 : code > 127 ? 127 : code);
}

// Writes output[row][column] for a sum with its bias.
void finish(const ferrule_gemm_args& args, size_t row, size_t column, float y) {
  const ferrule_epilogue& epilogue = args.epilogue;
  y = static_cast<float>(activate(epilogue.activation, y));
  if (epilogue.residual) y += epilogue.residual[row * epilogue.residual_stride + column];
  const size_t at = row * args.output_stride + column;
  if (epilogue.output_scale == 0)
    static_cast<float*>(args.output)[at] = y;
  else
    static_cast<int8_t*>(args.output)[at] = requantize(epilogue, y);
}

// Integer inputs. `weight(panel, column, k)` is the integer that multiplies the input's code.
template <typename Weight>
void multiply_codes(const ferrule_gemm_args& args, size_t begin, size_t end, Weight weight) {
  const ferrule_panel_layout& layout = args.layout;
  for (size_t p = begin; p < end; ++p) {
    const Panel panel = panel_at(args, p);
    for (size_t m = 0; m < args.m; ++m) {
      const auto* row = static_cast<const uint8_t*>(args.input) + m * args.input_stride;
      for (size_t c = 0; c < panel.count; ++c) {
        double total = 0;
        int64_t sum = 0;
        for (size_t k = 0; k < layout.depth; ++k) {
          const int code = layout.input == FERRULE_GEMM_U8 ? row[k] : static_cast<int8_t>(row[k]);
          sum += (code - args.input_zeros[m]) * weight(panel, c, k);
          if (k + 1 == layout.depth || (layout.groups && (k + 1) % layout.group == 0)) {
            total += static_cast<double>(sum) * read_group_scale(layout, panel, c, k);
            sum = 0;
          }
        }
        const float scale = args.input_scales[m] * panel.scales[c];
        finish(args, m, panel.first + c, static_cast<float>(total) * scale + panel.bias[c]);
      }
    }
  }
}

}  // namespace
