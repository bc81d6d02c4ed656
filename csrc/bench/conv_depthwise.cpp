#include "bench/bench.h"
#include "bench/window.h"
#include "kernels/declarations.h"

namespace ferrule::bench {

void bench_conv_depthwise(Bench& bench, ferrule_conv_depthwise_fn* kernel) {
  for (const DepthwiseShape& shape : kDepthwiseShapes) {
    const ferrule_window window = shape.window();
    const size_t inputs = window.in_height * window.in_width, outputs = window.out_height * window.out_width;
    const size_t channels = shape.channels, taps = shape.kernel * shape.kernel;
    const std::vector<float> input = draw_floats(inputs * channels), weight = draw_floats(taps * channels);
    const std::vector<float> bias = draw_floats(channels);
    std::vector<float> output(outputs * channels);
    ferrule_conv_depthwise_args args = {};
    args.input = input.data();
    args.weight = weight.data();
    args.bias = bias.data();
    args.output = output.data();
    args.input_stride = args.output_stride = args.channels = channels;
    args.window = window;
    args.activation = FERRULE_ACTIVATION_RELU;
    const auto products = static_cast<double>(outputs * channels * taps);
    bench.time(shape.name(),
               {2 * products, 0, 4.0 * static_cast<double>((inputs + outputs + taps) * channels)},
               [&](size_t) { kernel(&args, 0, window.out_height, nullptr); });
  }
}

}  // namespace ferrule::bench
