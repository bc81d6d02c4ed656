#include "bench/bench.h"
#include "bench/window.h"
#include "ferrule/arena.h"
#include "kernels/declarations.h"

namespace ferrule::bench {

void bench_conv_depthwise_i8(Bench& bench, ferrule_conv_depthwise_i8_fn* kernel) {
  for (const DepthwiseShape& shape : kDepthwiseShapes) {
    const ferrule_window window = shape.window();
    const size_t inputs = window.in_height * window.in_width, outputs = window.out_height * window.out_width;
    const size_t channels = shape.channels, taps = shape.kernel * shape.kernel;
    const std::vector<uint8_t> input = draw_bytes(inputs * channels), codes = draw_bytes(taps * channels);
    const std::vector<float> scales(channels, 0.01f);
    std::vector<int8_t> output(outputs * channels);
    ferrule_arena packed, scratch;
    ferrule_arena_create(&packed,
                         ferrule_conv_depthwise_i8_packed_bytes(shape.kernel, shape.kernel, channels));
    ferrule_arena_create(&scratch, ferrule_conv_depthwise_i8_scratch(&window));
    const ferrule_conv_depthwise_i8_weights weights = {reinterpret_cast<const int8_t*>(codes.data()),
                                                       scales.data(),
                                                       nullptr,
                                                       shape.kernel,
                                                       shape.kernel,
                                                       channels};
    ferrule_pack_conv_depthwise_i8(&weights, packed.memory);

    ferrule_conv_depthwise_i8_args args = {};
    args.input = input.data();
    args.input_scale = 0.01f;
    args.input_zero = 128;
    args.packed = packed.memory;
    args.output = output.data();
    args.input_stride = args.output_stride = args.channels = channels;
    args.window = window;
    args.epilogue.activation = FERRULE_ACTIVATION_RELU;
    args.epilogue.output_scale = 0.5f;
    const auto products = static_cast<double>(outputs * channels * taps);
    bench.time(shape.name(), {0, 2 * products, static_cast<double>((inputs + outputs + taps) * channels)},
               [&](size_t) { kernel(&args, 0, window.out_height, scratch.memory); });
    ferrule_arena_destroy(&packed);
    ferrule_arena_destroy(&scratch);
  }
}

}  // namespace ferrule::bench
