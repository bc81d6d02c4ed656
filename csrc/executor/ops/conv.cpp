// activation(convolution(x, weight) + bias) + residual over images with channels last.
// {kind: float32 | affine, weight | codes [out, height, width, in / groups], scales [out], bias, input,
// input_scale, input_zero, stride, dilation, padding, groups, activation, residual}, in [x] or [x, residual].
#include "ferrule/conv.h"

#include "executor/ops/packed.h"
#include "executor/ops/window.h"
#include "ferrule/conv_depthwise.h"

namespace ferrule::executor {

namespace {

class Conv : public WindowOp {
 public:
  explicit Conv(const Node& node)
      : WindowOp(node), activation_(read_activation(node)), has_residual_(node.flag("residual")) {
    const Weights weights = read_weights(node, 4);
    groups_ = require_size(node, "groups", node.integer("groups", 1), 1);
    if (weights.shape[0] % groups_ != 0) node.refuse("`groups` does not divide the output channels");
    window_.kernel_height = weights.shape[1];
    window_.kernel_width = weights.shape[2];
    in_channels_ = weights.shape[3] * groups_;
    out_channels_ = weights.shape[0];
    const bool floats = weights.spec.weight == FERRULE_WEIGHT_F32 && weights.spec.input == FERRULE_INPUT_F32;
    if (floats && weights.shape[3] == 1 && groups_ == out_channels_)
      keep_depthwise(weights);
    else
      packed_ = pack_weights(node, weights, groups_);
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    const size_t count = has_residual_ ? 2 : 1;
    expect_count(inputs, count, count);
    const Spec result = infer_images(inputs[0], out_channels_);
    if (inputs[0].shape[3] != in_channels_)
      misfit("its input is " + inputs[0].shape.text() + " where " + std::to_string(in_channels_) +
             " channels are needed");
    if (has_residual_) expect_shape(inputs[1], result.shape);
    if (!is_depthwise() && result.shape.count() && !scratch(inputs, 1))
      misfit("its images " + inputs[0].shape.text() + " are too large");
    return {result};
  }

  size_t scratch(const std::vector<Spec>& inputs, size_t threads) const override {
    if (is_depthwise()) return 0;
    const ferrule_conv_args args = describe(inputs[0].shape);
    return ferrule_conv_scratch(&args, threads);
  }

  bool may_overwrite(size_t index) const override { return index == 1; }  // the residual

  void run(const Call& call) const override {
    if (is_depthwise()) return run_depthwise(call);
    ferrule_conv_args args = describe(call.inputs[0].shape());
    args.input = call.inputs[0].data;
    args.output = call.outputs[0].data;
    if (has_residual_) args.epilogue.residual = call.inputs[1].as<float>();
    require_ok(ferrule_conv(&args, call.scratch, call.pool));
  }

 private:
  bool is_depthwise() const { return depthwise_ != nullptr; }

  // From [channels][height][width] to [height][width][channels].
  void keep_depthwise(const Weights& weights) {
    const size_t taps = window_.kernel_height * window_.kernel_width;
    depthwise_ = allocate(out_channels_ * taps * sizeof(float));
    bias_ = weights.bias;
    auto* to = reinterpret_cast<float*>(depthwise_.get());
    for (size_t channel = 0; channel < out_channels_; ++channel) {
      for (size_t tap = 0; tap < taps; ++tap)
        to[tap * out_channels_ + channel] = weights.weight.as<float>()[channel * taps + tap];
    }
  }

  ferrule_conv_args describe(const Shape& images) const {
    ferrule_conv_args args = {};
    args.packed = packed_.memory.get();
    args.packed_bytes = packed_.bytes;
    args.groups = groups_;
    args.input_kind = FERRULE_GEMM_F32;
    args.input_stride = args.in_channels = in_channels_;
    args.output_stride = args.epilogue.residual_stride = out_channels_;
    args.window = window_over(images);
    args.epilogue.activation = activation_;
    return args;
  }

  void run_depthwise(const Call& call) const {
    ferrule_conv_depthwise_args args = {};
    args.input = call.inputs[0].as<float>();
    args.weight = reinterpret_cast<const float*>(depthwise_.get());
    args.bias = bias_.as<float>();
    if (has_residual_) args.residual = call.inputs[1].as<float>();
    args.output = call.outputs[0].as<float>();
    args.channels = args.input_stride = args.residual_stride = args.output_stride = in_channels_;
    args.window = window_over(call.inputs[0].shape());
    args.activation = activation_;
    require_ok(ferrule_conv_depthwise(&args, nullptr, call.pool));
  }

  ferrule_activation activation_;
  bool has_residual_;
  size_t groups_, in_channels_, out_channels_;
  PackedWeights packed_;
  std::shared_ptr<unsigned char> depthwise_;  // weights, where each channel has a kernel of its own
  Constant bias_;                             // of those
};

}  // namespace

std::unique_ptr<Op> make_conv(const Node& node) { return std::make_unique<Conv>(node); }

}  // namespace ferrule::executor
