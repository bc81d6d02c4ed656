// Convolutions in which each channel has a kernel of its own: float32 (codes become float32 weights), or of
// integers, for which each image is quantized as it arrives.
#include "ferrule/conv_depthwise.h"

#include <math.h>

#include <algorithm>

#include "executor/ops/conv.h"
#include "ferrule/arena.h"
#include "ferrule/conv_depthwise_i8.h"
#include "ferrule/quantize_rows.h"

namespace ferrule::executor {

namespace {

// [channels][taps] as [taps][channels], in which the kernels read them.
template <typename T>
void turn(const T* from, size_t channels, size_t taps, T* to) {
  for (size_t channel = 0; channel < channels; ++channel) {
    for (size_t tap = 0; tap < taps; ++tap) to[tap * channels + channel] = from[channel * taps + tap];
  }
}

class FloatDepthwise : public ConvOp {
 public:
  FloatDepthwise(const Node& node, const Weights& weights) : ConvOp(node, weights), bias_(weights.bias) {
    node.use_kernel("conv_depthwise");
    const size_t taps = weights.spec.depth, count = out_channels_ * taps;
    std::vector<float> decoded(count);
    for (size_t i = 0; i < count; ++i) {
      decoded[i] =
          weights.spec.weight == FERRULE_WEIGHT_F32
              ? weights.weight.as<float>()[i]
              : weights.scales.as<float>()[i / taps] * static_cast<float>(weights.weight.as<int8_t>()[i]);
    }
    weight_ = allocate(count * sizeof(float));
    turn(decoded.data(), out_channels_, taps, reinterpret_cast<float*>(weight_.get()));
  }

  void run(const Call& call) const override {
    ferrule_conv_depthwise_args args = {};
    args.input = call.inputs[0].as<float>();
    args.weight = reinterpret_cast<const float*>(weight_.get());
    args.bias = bias_.as<float>();
    args.residual = residual(call);
    args.output = call.outputs[0].as<float>();
    args.channels = args.input_stride = args.residual_stride = args.output_stride = out_channels_;
    args.window = window_over(call.inputs[0].shape());
    args.activation = activation_;
    require_ok(ferrule_conv_depthwise(&args, nullptr, call.pool));
  }

 private:
  std::shared_ptr<unsigned char> weight_;
  Constant bias_;
};

size_t round_up(size_t bytes) {
  return (bytes + FERRULE_ALIGNMENT - 1) / FERRULE_ALIGNMENT * FERRULE_ALIGNMENT;
}

class CodedDepthwise : public ConvOp {
 public:
  CodedDepthwise(const Node& node, const Weights& weights) : ConvOp(node, weights), spec_(weights.spec) {
    node.use_kernel("conv_depthwise_i8");
    node.use_kernel("quantize_rows");
    ferrule_conv_depthwise_i8_weights given = {};
    const auto turned = allocate(weights.weight.spec.bytes());
    turn(weights.weight.as<int8_t>(), out_channels_, spec_.depth, reinterpret_cast<int8_t*>(turned.get()));
    given.codes = reinterpret_cast<const int8_t*>(turned.get());
    given.scales = weights.scales.as<float>();
    given.bias = weights.bias.as<float>();
    given.kernel_height = window_.kernel_height;
    given.kernel_width = window_.kernel_width;
    given.channels = out_channels_;
    const size_t bytes =
        ferrule_conv_depthwise_i8_packed_bytes(given.kernel_height, given.kernel_width, given.channels);
    if (bytes == 0) require_packed(node, FERRULE_TOO_LARGE);
    packed_ = allocate(bytes);
    require_packed(node, ferrule_pack_conv_depthwise_i8(&given, packed_.get()));
  }

  size_t scratch(const std::vector<Spec>& inputs, size_t threads) const override {
    const ferrule_window window = window_over(inputs[0].shape);
    const size_t codes = inputs[0].dtype == Dtype::kInt8 ? 0 : divide_scratch(inputs[0].shape).kernels;
    size_t bytes = 0;
    if (__builtin_mul_overflow(ferrule_conv_depthwise_i8_scratch(&window), threads, &bytes) ||
        __builtin_add_overflow(bytes, codes, &bytes))
      misfit("its images " + inputs[0].shape.text() + " are too large");
    return bytes;
  }

  void run(const Call& call) const override {
    const Shape& images = call.inputs[0].shape();
    if (call.inputs[0].spec.dtype == Dtype::kInt8) return convolve_codes(call);
    const Scratch parts = divide_scratch(images);
    auto* scratch = static_cast<unsigned char*>(call.scratch);
    const auto* scales = reinterpret_cast<const float*>(scratch + parts.scales);
    const auto* zeros = reinterpret_cast<const int32_t*>(scratch + parts.zeros);
    if (call.outputs[0].shape().count() == 0) return;
    quantize(call, parts);
    const size_t rows = parts.rows / images[0];  // of an image
    for (size_t image = 0; image < images[0]; ++image) {
      const float* first = scales + image * rows;
      const bool has_nan = std::any_of(first, first + rows, [](float scale) { return isnan(scale); });
      convolve(call, image, has_nan ? NAN : *first, zeros[image * rows], scratch + parts.kernels);
    }
  }

 private:
  // Where codes (at 0), the scales and zero points of their rows, and the kernel's memory lie.
  struct Scratch {
    size_t rows, scales, zeros, kernels;
  };

  // A range known beforehand lets threads divide an image; else it has the range of its values.
  Scratch divide_scratch(const Shape& images) const {
    Scratch parts = {};
    parts.rows = spec_.input == FERRULE_INPUT_I8_STATIC ? images[0] * images[1] : images[0];
    parts.scales = round_up(images.count());
    parts.zeros = parts.scales + round_up(parts.rows * sizeof(float));
    parts.kernels = parts.zeros + round_up(parts.rows * sizeof(int32_t));
    return parts;
  }

  void quantize(const Call& call, const Scratch& parts) const {
    auto* scratch = static_cast<unsigned char*>(call.scratch);
    ferrule_quantize_rows_args args = {};
    args.input = call.inputs[0].as<float>();
    args.codes = scratch;
    args.scales = reinterpret_cast<float*>(scratch + parts.scales);
    args.zeros = reinterpret_cast<int32_t*>(scratch + parts.zeros);
    args.rows = parts.rows;
    args.width = call.inputs[0].shape().count() / parts.rows;
    args.input_stride = args.codes_stride = args.padded = args.width;
    args.range_scale = spec_.input_scale;  // 0 where it is not known
    args.range_zero = spec_.input_zero;
    require_ok(ferrule_quantize_rows(&args, nullptr, call.pool));
  }

  // Of images that arrive as codes.
  void convolve_codes(const Call& call) const {
    if (call.outputs[0].shape().count() == 0) return;
    ferrule_conv_depthwise_i8_args args = describe(call.inputs[0].shape());
    args.input = call.inputs[0].data;
    args.input_is_signed = 1;
    args.input_scale = spec_.input_scale;
    args.input_zero = spec_.input_zero;
    args.output = call.outputs[0].data;
    if (has_residual_) args.epilogue.residual = residual(call);
    require_ok(ferrule_conv_depthwise_i8(&args, nullptr, call.scratch, call.pool));
  }

  // One image; all of it is NaN where the scale of its codes is, as the quantization of NaN and infinity has
  // it.
  void convolve(const Call& call, size_t image, float scale, int32_t zero, void* scratch) const {
    const Shape &images = call.inputs[0].shape(), &results = call.outputs[0].shape();
    const size_t in = images.count() / images[0], out = results.count() / images[0];
    auto* output =
        static_cast<unsigned char*>(call.outputs[0].data) + image * out * size_of(call.outputs[0].spec.dtype);
    if (isnan(scale)) return fill_unknown(output, out);
    ferrule_conv_depthwise_i8_args args = describe(images);
    args.input = static_cast<const unsigned char*>(call.scratch) + image * in;
    args.input_scale = scale;
    args.input_zero = zero;
    args.output = output;
    args.window.batch = 1;
    if (has_residual_) args.epilogue.residual = residual(call) + image * out;
    require_ok(ferrule_conv_depthwise_i8(&args, nullptr, scratch, call.pool));
  }

  void fill_unknown(unsigned char* output, size_t count) const {
    if (output_scale_ == 0) return std::fill_n(reinterpret_cast<float*>(output), count, NAN), void();
    std::fill_n(reinterpret_cast<int8_t*>(output), count, static_cast<int8_t>(output_zero_));
  }

  ferrule_conv_depthwise_i8_args describe(const Shape& images) const {
    ferrule_conv_depthwise_i8_args args = {};
    args.packed = packed_.get();
    args.channels = args.input_stride = args.output_stride = out_channels_;
    args.window = window_over(images);
    args.epilogue = epilogue();
    return args;
  }

  ferrule_linear_spec spec_;
  std::shared_ptr<unsigned char> packed_;
};

}  // namespace

std::unique_ptr<Op> make_conv_depthwise(const Node& node, const Weights& weights) {
  if (weights.spec.input == FERRULE_INPUT_F32) return std::make_unique<FloatDepthwise>(node, weights);
  if (weights.spec.weight == FERRULE_WEIGHT_F32) require_packed(node, FERRULE_BAD_TYPE);
  return std::make_unique<CodedDepthwise>(node, weights);
}

}  // namespace ferrule::executor
