#include "bench/bench.h"
#include "kernels/declarations.h"

namespace ferrule::bench {
namespace {

struct Shape {
  const char* name;
  int kind;
  size_t input, output, kernel, stride, pad, channels;
};

// ResNet's first pooling, a plain halving, and the end of MobileNet.
const Shape kShapes[] = {{"max 3 x 3 / 2, 112 x 112 x 64", FERRULE_POOLING_MAX, 112, 56, 3, 2, 1, 64},
                         {"average 2 x 2 / 2, 56 x 56 x 64", FERRULE_POOLING_AVERAGE, 56, 28, 2, 2, 0, 64},
                         {"average 7 x 7 x 1280", FERRULE_POOLING_AVERAGE, 7, 1, 7, 7, 0, 1280}};

ferrule_window window_of(const Shape& shape) {
  return {1,
          shape.input,
          shape.input,
          shape.output,
          shape.output,
          shape.kernel,
          shape.kernel,
          shape.stride,
          shape.stride,
          1,
          1,
          shape.pad,
          shape.pad};
}

double elements_of(const Shape& shape) {
  return static_cast<double>((shape.input * shape.input + shape.output * shape.output) * shape.channels);
}

}  // namespace

void bench_pooling(Bench& bench, ferrule_pooling_fn* kernel) {
  for (const Shape& shape : kShapes) {
    const std::vector<float> input = draw_floats(shape.input * shape.input * shape.channels);
    std::vector<float> output(shape.output * shape.output * shape.channels);
    ferrule_pooling_args args = {};
    args.kind = shape.kind;
    args.input = input.data();
    args.output = output.data();
    args.window = window_of(shape);
    args.channels = args.input_stride = args.output_stride = shape.channels;
    bench.time(std::string(shape.name) + " last", {0, 0, 4 * elements_of(shape)},
               [&](size_t) { kernel(&args, 0, shape.output, nullptr); });
    args.layout = FERRULE_CHANNELS_FIRST;
    bench.time(std::string(shape.name) + " first", {0, 0, 4 * elements_of(shape)},
               [&](size_t) { kernel(&args, 0, shape.output * shape.channels, nullptr); });
  }
}

void bench_pooling_i8(Bench& bench, ferrule_pooling_i8_fn* kernel) {
  for (const Shape& shape : kShapes) {
    const std::vector<uint8_t> input = draw_bytes(shape.input * shape.input * shape.channels);
    std::vector<int8_t> output(shape.output * shape.output * shape.channels);
    ferrule_pooling_i8_args args = {};
    args.kind = shape.kind;
    args.input = reinterpret_cast<const int8_t*>(input.data());
    args.output = output.data();
    args.window = window_of(shape);
    args.channels = args.input_stride = args.output_stride = shape.channels;
    bench.time(shape.name, {0, 0, elements_of(shape)},
               [&](size_t) { kernel(&args, 0, shape.output, nullptr); });
  }
}

void bench_mean_tokens(Bench& bench, ferrule_mean_tokens_fn* kernel) {
  const std::vector<float> input = draw_floats(128 * 384);
  const std::vector<uint8_t> mask(128, 1);
  std::vector<float> output(384);
  const ferrule_mean_tokens_args args = {input.data(), mask.data(), output.data(), 128 * 384, 384, 128,
                                         384,          1,           128,           384,       1};
  bench.time("1 x 128 x 384, normalized", {0, 0, 4.0 * 128 * 384},
             [&](size_t) { kernel(&args, 0, 1, nullptr); });
}

}  // namespace ferrule::bench
