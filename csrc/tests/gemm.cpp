#include "tests/gemm.h"

#include <algorithm>

#include "ferrule/arena.h"
#include "kernels/declarations.h"
#include "ops/panels.h"

namespace ferrule::tests {

namespace {

// x cut to the 8 significant bits that bfloat16 has. By arithmetic: GCC 12 with a sanitizer drops the mask of
// bits that were copied from a parameter.
float to_bfloat16(float x) {
  int exponent = 0;
  const float fraction = frexpf(x, &exponent);
  return ldexpf(truncf(ldexpf(fraction, 8)), exponent - 8);
}

struct Memory {
  explicit Memory(size_t bytes) { ferrule_arena_create(&arena, bytes + FERRULE_ALIGNMENT); }
  ~Memory() { ferrule_arena_destroy(&arena); }
  ferrule_arena arena = {};
};

// The rows that a product reads, in the form that its layout asks for.
struct Input {
  Buffer<float> values;
  Buffer<uint8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> zeros;
};

Input draw_input(Random& random, const ferrule_panel_layout& layout, size_t m, size_t stride, bool plain) {
  const bool floats = layout.input == FERRULE_GEMM_F32;
  Input input = {Buffer<float>(random, floats ? m * stride : 0),
                 Buffer<uint8_t>(random, floats ? 0 : m * stride),
                 {},
                 {}};
  for (size_t r = 0; r < m; ++r) {
    input.scales.push_back(plain ? 1 : random.uniform(0.001f, 0.02f));
    input.zeros.push_back(static_cast<int32_t>(random.integer(0, 255)) -
                          (layout.input == FERRULE_GEMM_S8 ? 128 : 0));
    const bool extreme = random.chance(8);  // all codes at one end, where narrow sums would overflow
    for (size_t k = 0; k < layout.padded; ++k) {
      if (floats && k < layout.depth) {
        input.values[r * stride + k] = plain ? static_cast<float>(random.integer(-9, 9)) : random.normal();
      } else if (!floats) {
        const auto code = static_cast<uint8_t>(extreme ? 255 : random.bits() >> 56);
        input.codes[r * stride + k] = k < layout.depth ? code : 0;
      }
    }
  }
  return input;
}

ferrule_epilogue draw_epilogue(Random& random, bool plain) {
  ferrule_epilogue epilogue = {};
  if (plain) return epilogue;
  epilogue.activation = static_cast<ferrule_activation>(random.integer(0, FERRULE_ACTIVATION_HARD_SWISH));
  if (random.chance(4)) {
    epilogue.output_scale = random.uniform(0.01f, 0.1f);
    epilogue.output_zero = static_cast<int32_t>(random.integer(-128, 127));
  }
  return epilogue;
}

}  // namespace

ferrule_linear_weights DrawnWeights::weights() const {
  ferrule_linear_weights weights = {};
  weights.values = values.empty() ? nullptr : values.data();
  weights.codes = codes.data();
  weights.scales = scales.data();
  weights.table = table.empty() ? nullptr : table.data();
  weights.bias = bias.empty() ? nullptr : bias.data();
  return weights;
}

// Zeros among each four values of a row, two of them or more.
template <typename Value>
void prune(Random& random, const ferrule_linear_spec& spec, std::vector<Value>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t k = i % spec.depth, quad = i - k % 4;
    if (k % 4 == 0 && random.chance(4)) values[i] = 0;
    size_t kept = 0;
    for (size_t j = quad; j < i; ++j) kept += values[j] != 0;
    if (kept == 2 || (kept + 2 > k % 4 && random.chance(2))) values[i] = 0;
  }
}

DrawnWeights draw_weights(Random& random, const ferrule_linear_spec& spec, bool plain) {
  DrawnWeights drawn;
  const size_t count = spec.rows * spec.depth, bits = ops::bits_of(spec.weight);
  const bool lookup = ops::is_lookup(spec.weight);
  const float size = 1 / sqrtf(static_cast<float>(spec.depth + 1));
  if (spec.weight == FERRULE_WEIGHT_F32) {
    for (size_t i = 0; i < count; ++i) {
      drawn.values.push_back(plain ? static_cast<float>(random.integer(-9, 9)) : random.normal() * size);
    }
  } else {
    const int half = 1 << (bits - 1);
    for (size_t i = 0; i < count; ++i) {
      const auto code = static_cast<int>(random.bits() >> (64 - bits)) - (lookup ? 0 : half);
      drawn.codes.push_back(static_cast<int8_t>(random.chance(200) && !lookup ? -half : code));
    }
  }
  if (spec.sparse24) {
    prune(random, spec, drawn.values);
    prune(random, spec, drawn.codes);
  }
  const bool grouped = spec.weight == FERRULE_WEIGHT_AFFINE4 && spec.group && spec.group < spec.depth;
  const size_t scales = spec.rows * (grouped ? (spec.depth + spec.group - 1) / spec.group : 1);
  for (size_t i = 0; i < scales; ++i) {
    const float scale = random.uniform(0.5f, 2) * (lookup ? 1 : ldexpf(size * 2, -static_cast<int>(bits)));
    drawn.scales.push_back(plain ? 1 : grouped ? to_bfloat16(scale) : scale);
  }
  if (lookup) {
    const size_t palettes = spec.group ? spec.rows / spec.group : 1;
    for (size_t i = 0; i < palettes << bits; ++i) {
      // One entry of 127, so that the integers of a plain palette are the palette.
      const auto whole = i % (size_t{1} << bits) == 1 ? 127 : random.integer(-127, 127);
      drawn.table.push_back(plain ? static_cast<float>(whole) : random.normal() * size);
    }
  }
  if (!plain && random.chance(2)) {
    for (size_t n = 0; n < spec.rows; ++n) drawn.bias.push_back(random.normal());
  }
  return drawn;
}

template <typename Code>
void clear_odd_rows(Code* codes, size_t rows, size_t stride) {
  for (size_t r = 1; r < rows; r += 2) memset(codes + r * stride, 0, stride);
}

void test_gemm(Rig& rig, const char* op, ferrule_weight_kind kind, ferrule_gemm_fn* kernel,
               ferrule_gemm_fn* scalar) {
  Random& random = rig.random;
  const bool plain = random.chance(3);
  ferrule_linear_spec spec = {};
  spec.weight = kind;
  spec.sparse24 = strstr(op, "_sparse") != nullptr;
  spec.depth = random.size(random.chance(8) ? random.chance(20) ? 1300 : 400 : 90);
  const size_t groups[] = {0, 0, 32, 64, 128};
  if (kind == FERRULE_WEIGHT_AFFINE4) spec.group = groups[random.integer(0, 4)];
  ferrule_panel_layout layout;
  if (ferrule_lay_out_panels(op, rig.isa(), spec.depth, spec.group, &layout) != FERRULE_OK) {
    return rig.expect(false, "has no tile");
  }
  const size_t m = random.size(random.chance(8) ? 70 : 20);
  spec.rows = random.size(random.chance(300) ? 12 * layout.columns : layout.columns + 10);
  if (ops::is_lookup(kind) && random.chance(2)) {
    spec.group = layout.palette * static_cast<size_t>(random.integer(1, 8));
    spec.rows = spec.rows / spec.group * spec.group;
  }
  const size_t input_stride = layout.padded + random.size(3), output_stride = spec.rows + random.size(3);
  rig.describe("m %zu n %zu k %zu group %zu plain %d input stride %zu output stride %zu", m, spec.rows,
               spec.depth, spec.group, plain, input_stride, output_stride);

  const size_t panels = (spec.rows + layout.columns - 1) / layout.columns;
  Memory packed(panels * layout.bytes), scratch(ferrule_gemm_scratch(&layout));
  DrawnWeights weights = draw_weights(random, spec, plain);
  Input input = draw_input(random, layout, m, input_stride, plain);
  if (rig.thin) {
    clear_odd_rows(weights.codes.data(), spec.rows, spec.depth);
    clear_odd_rows(input.codes.data(), input.codes.size() ? m : 0, input_stride);
  }
  ops::pack_panels(spec, layout, weights.weights(), packed.arena.memory, nullptr);

  const bool uniform = layout.input != FERRULE_GEMM_F32 && m > 0 && random.chance(2);
  if (uniform) {
    std::fill(input.scales.begin(), input.scales.end(), input.scales[0]);
    std::fill(input.zeros.begin(), input.zeros.end(), input.zeros[0]);
  }

  ferrule_gemm_args args = {};
  args.uniform = uniform;
  args.input =
      layout.input == FERRULE_GEMM_F32 ? static_cast<const void*>(input.values.data()) : input.codes.data();
  args.input_stride = input_stride;
  args.input_scales = input.scales.data();
  args.input_zeros = input.zeros.data();
  args.packed = packed.arena.memory;
  args.output_stride = output_stride;
  args.m = m;
  args.n = spec.rows;
  args.layout = layout;
  args.epilogue = draw_epilogue(random, plain);

  Buffer<float> output = draw_normal(random, m * output_stride), want = output;
  Buffer<int8_t> codes(random, m * output_stride), want_codes = codes;
  const bool has_residual = !plain && random.chance(2), in_place = random.chance(2);
  const Buffer<float> residual = output;
  args.epilogue.residual_stride = output_stride;
  const bool floats = args.epilogue.output_scale == 0;
  const auto run = [&](ferrule_gemm_fn* fn, Buffer<float>& y, Buffer<int8_t>& q) {
    args.output = floats ? static_cast<void*>(y.data()) : q.data();
    args.epilogue.residual = !has_residual ? nullptr : in_place ? y.data() : residual.data();
    const size_t middle = panels / 2;
    fn(&args, 0, middle, scratch.arena.memory);
    fn(&args, middle, panels, scratch.arena.memory);
  };
  run(scalar, want, want_codes);
  run(kernel, output, codes);
  rig.expect_close("output", output.data(), want.data(), want.size(), plain ? 0 : 3e-5f, plain ? 0 : 1e-5f);
  rig.expect_codes("codes", codes.data(), want_codes.data(), want_codes.size(), 1);
  rig.expect(output.intact() && codes.intact(), "wrote past its output");
}

void test_gemm_i8(Rig& rig, ferrule_gemm_i8_fn* kernel) {
  test_gemm(rig, "gemm_i8", FERRULE_WEIGHT_AFFINE8, kernel, ferrule_gemm_i8_scalar);
}

void test_gemm_i4(Rig& rig, ferrule_gemm_i4_fn* kernel) {
  test_gemm(rig, "gemm_i4", FERRULE_WEIGHT_AFFINE4, kernel, ferrule_gemm_i4_scalar);
}

void test_gemm_lut4(Rig& rig, ferrule_gemm_lut4_fn* kernel) {
  test_gemm(rig, "gemm_lut4", FERRULE_WEIGHT_LOOKUP4, kernel, ferrule_gemm_lut4_scalar);
}

void test_gemm_lut2(Rig& rig, ferrule_gemm_lut2_fn* kernel) {
  test_gemm(rig, "gemm_lut2", FERRULE_WEIGHT_LOOKUP2, kernel, ferrule_gemm_lut2_scalar);
}

void test_gemm_f32(Rig& rig, ferrule_gemm_f32_fn* kernel) {
  test_gemm(rig, "gemm_f32", FERRULE_WEIGHT_F32, kernel, ferrule_gemm_f32_scalar);
}

void test_gemm_f32_i8(Rig& rig, ferrule_gemm_f32_i8_fn* kernel) {
  test_gemm(rig, "gemm_f32_i8", FERRULE_WEIGHT_AFFINE8, kernel, ferrule_gemm_f32_i8_scalar);
}

void test_gemm_f32_i4(Rig& rig, ferrule_gemm_f32_i4_fn* kernel) {
  test_gemm(rig, "gemm_f32_i4", FERRULE_WEIGHT_AFFINE4, kernel, ferrule_gemm_f32_i4_scalar);
}

void test_gemm_f32_lut4(Rig& rig, ferrule_gemm_f32_lut4_fn* kernel) {
  test_gemm(rig, "gemm_f32_lut4", FERRULE_WEIGHT_LOOKUP4, kernel, ferrule_gemm_f32_lut4_scalar);
}

void test_gemm_f32_lut2(Rig& rig, ferrule_gemm_f32_lut2_fn* kernel) {
  test_gemm(rig, "gemm_f32_lut2", FERRULE_WEIGHT_LOOKUP2, kernel, ferrule_gemm_f32_lut2_scalar);
}

void test_gemm_sparse_f32(Rig& rig, ferrule_gemm_sparse_f32_fn* kernel) {
  test_gemm(rig, "gemm_sparse_f32", FERRULE_WEIGHT_F32, kernel, ferrule_gemm_sparse_f32_scalar);
}

void test_gemm_sparse_i8(Rig& rig, ferrule_gemm_sparse_i8_fn* kernel) {
  test_gemm(rig, "gemm_sparse_i8", FERRULE_WEIGHT_AFFINE8, kernel, ferrule_gemm_sparse_i8_scalar);
}

}  // namespace ferrule::tests
