// Convolution is an op over the gemm kernels: bench/main.cpp runs it for each instruction set by itself.
#include "ferrule/conv.h"

#include "bench/bench.h"
#include "bench/window.h"
#include "ferrule/arena.h"

namespace ferrule::bench {

namespace {

struct Layer {
  const ConvShape& shape;
  ferrule_linear_spec spec = {};
  std::vector<float> values, scales, input, output;
  std::vector<uint8_t> codes, input_codes;
  ferrule_arena packed = {}, scratch = {};
  ferrule_conv_args args = {};

  Layer(const ConvShape& shape, bool integers, const char* isa) : shape(shape) {
    spec.weight = integers ? FERRULE_WEIGHT_AFFINE8 : FERRULE_WEIGHT_F32;
    spec.input = integers ? FERRULE_INPUT_I8_STATIC : FERRULE_INPUT_F32;
    spec.input_scale = integers ? 0.02f : 0;
    spec.rows = shape.out_channels;
    spec.depth = shape.kernel * shape.kernel * shape.in_channels;
    const ferrule_window window = shape.window();
    const size_t inputs = window.in_height * window.in_width * shape.in_channels;
    values = draw_floats(spec.rows * spec.depth);
    codes = draw_bytes(spec.rows * spec.depth);
    scales.assign(spec.rows, 0.01f);
    input = draw_floats(inputs);
    input_codes = draw_bytes(inputs);
    output.resize(window.out_height * window.out_width * spec.rows);
    size_t bytes = 0;
    ferrule_conv_packed_size(&spec, 1, isa, &bytes);
    ferrule_arena_create(&packed, bytes);
    const ferrule_linear_weights weights = {values.data(), codes.data(), scales.data(), nullptr, nullptr};
    ferrule_conv_pack(&spec, 1, isa, &weights, packed.memory);
    args.packed = packed.memory;
    args.packed_bytes = bytes;
    args.groups = 1;
    args.input = integers ? static_cast<const void*>(input_codes.data()) : input.data();
    args.input_kind = integers ? FERRULE_GEMM_U8 : FERRULE_GEMM_F32;
    args.output = output.data();
    args.input_stride = args.in_channels = shape.in_channels;
    args.output_stride = spec.rows;
    args.window = window;
    args.epilogue.activation = FERRULE_ACTIVATION_RELU;
    args.epilogue.output_scale = integers ? 0.5f : 0;
    ferrule_arena_create(&scratch, ferrule_conv_scratch(&args, 1));
  }
  ~Layer() {
    ferrule_arena_destroy(&packed);
    ferrule_arena_destroy(&scratch);
  }
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
};

void time_layers(Bench& bench, bool integers) {
  for (const ConvShape& shape : kConvShapes) {
    Layer layer(shape, integers, bench.isa());
    const ferrule_window& window = layer.args.window;
    const double ops =
        2.0 * static_cast<double>(window.out_height * window.out_width * layer.spec.rows * layer.spec.depth);
    bench.time(shape.name(), {integers ? 0 : ops, integers ? ops : 0, 0},
               [&](size_t) { ferrule_conv(&layer.args, layer.scratch.memory, nullptr); });
  }
}

}  // namespace

void bench_conv_f32(Bench& bench) { time_layers(bench, false); }

void bench_conv_i8(Bench& bench) { time_layers(bench, true); }

}  // namespace ferrule::bench
