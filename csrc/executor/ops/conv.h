// What convolutions share.
#ifndef FERRULE_EXECUTOR_OPS_CONV_H
#define FERRULE_EXECUTOR_OPS_CONV_H

#include "executor/ops/packed.h"
#include "executor/ops/window.h"

namespace ferrule::executor {

class ConvOp : public WindowOp {
 public:
  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    const size_t count = has_residual_ ? 2 : 1;
    require_inputs(inputs, count, count);
    if (!(is_static_ && inputs[0].dtype == Dtype::kInt8)) expect_floats(inputs[0], 4);
    Spec result = infer_images(inputs[0], out_channels_);
    result.dtype = Dtype::kFloat32;
    if (inputs[0].shape[3] != in_channels_)
      misfit("its input is " + inputs[0].shape.text() + " where " + std::to_string(in_channels_) +
             " channels are needed");
    if (has_residual_) expect_shape(inputs[1], result.shape);
    if (output_scale_ != 0) result.dtype = Dtype::kInt8;
    return {result};
  }

  bool may_overwrite(size_t index) const override { return index == 1; }  // the residual

 protected:
  ConvOp(const Node& node, const Weights& weights)
      : WindowOp(node), activation_(read_activation(node)), has_residual_(node.flag("residual")) {
    groups_ = require_size(node, "groups", node.integer("groups", 1), 1);
    if (weights.shape[0] % groups_ != 0) node.refuse("`groups` does not divide the output channels");
    window_.kernel_height = weights.shape[1];
    window_.kernel_width = weights.shape[2];
    in_channels_ = weights.shape[3] * groups_;
    out_channels_ = weights.shape[0];
    is_static_ = weights.spec.input == FERRULE_INPUT_I8_STATIC;
    if (node.has("output_scale")) read_output_range(node);
  }

  const float* residual(const Call& call) const {
    return has_residual_ ? call.inputs[1].as<float>() : nullptr;
  }

  ferrule_epilogue epilogue() const {
    ferrule_epilogue epilogue = {};
    epilogue.activation = activation_;
    epilogue.residual_stride = out_channels_;
    epilogue.output_scale = output_scale_;
    epilogue.output_zero = output_zero_;
    return epilogue;
  }

  ferrule_activation activation_;
  bool has_residual_, is_static_;
  float output_scale_ = 0;  // 0: float32 comes out
  int32_t output_zero_ = 0;
  size_t groups_, in_channels_, out_channels_;

 private:
  void read_output_range(const Node& node) {
    if (!is_static_) node.refuse("`output_scale` is for convolutions of `static8` input");
    output_scale_ = read_float(node, "output_scale");
    if (!(output_scale_ >= 1e-30f && output_scale_ <= 1e30f)) node.refuse("`output_scale` is out of range");
    const int64_t zero = node.integer("output_zero");
    if (zero < -128 || zero > 127) node.refuse("`output_zero` is no int8");
    output_zero_ = static_cast<int32_t>(zero);
  }
};

// Of as many groups as channels, in and out.
std::unique_ptr<Op> make_conv_depthwise(const Node& node, const Weights& weights);

}  // namespace ferrule::executor

#endif
