// activation(convolution(x, weight) + bias) + residual over images with channels last.
// {kind: float32 | affine, weight | codes [out, height, width, in / groups], scales [out], bias, input,
// input_scale, input_zero, stride, dilation, padding, groups, activation, residual, output_scale,
// output_zero}, in [x] or [x, residual]. With `static8` input x may be int8 codes of that range, and with
// output_scale int8 codes come out, which hold no NaN.
#include "executor/ops/conv.h"

#include "ferrule/conv.h"

namespace ferrule::executor {

namespace {

class Conv : public ConvOp {
 public:
  Conv(const Node& node, const Weights& weights)
      : ConvOp(node, weights), packed_(pack_weights(node, weights, groups_)) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths& lengths) override {
    std::vector<Spec> results = ConvOp::infer(inputs, lengths);
    if (results[0].shape.count() && !scratch(inputs, 1))
      misfit("its images " + inputs[0].shape.text() + " are too large");
    return results;
  }

  size_t scratch(const std::vector<Spec>& inputs, size_t threads) const override {
    const ferrule_conv_args args = describe(inputs[0]);
    return ferrule_conv_scratch(&args, threads);
  }

  void run(const Call& call) const override {
    ferrule_conv_args args = describe(call.inputs[0].spec);
    args.input = call.inputs[0].data;
    args.output = call.outputs[0].data;
    args.epilogue.residual = residual(call);
    require_ok(ferrule_conv(&args, call.scratch, call.pool));
  }

 private:
  ferrule_conv_args describe(const Spec& images) const {
    ferrule_conv_args args = {};
    args.packed = packed_->memory.get();
    args.packed_bytes = packed_->bytes;
    args.groups = groups_;
    args.input_kind = images.dtype == Dtype::kInt8 ? FERRULE_GEMM_S8 : FERRULE_GEMM_F32;
    args.input_stride = args.in_channels = in_channels_;
    args.output_stride = out_channels_;
    args.window = window_over(images.shape);
    args.epilogue = epilogue();
    return args;
  }

  std::shared_ptr<const PackedWeights> packed_;
};

}  // namespace

std::unique_ptr<Op> make_conv(const Node& node) {
  const Weights weights = read_weights(node, 4);
  const auto rows = static_cast<int64_t>(weights.shape[0]);
  if (weights.shape[3] == 1 && node.integer("groups", 1) == rows) return make_conv_depthwise(node, weights);
  return std::make_unique<Conv>(node, weights);
}

}  // namespace ferrule::executor
