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
    const Spec result = infer_images(inputs[0], out_channels_);
    if (inputs[0].shape[3] != in_channels_)
      misfit("its input is " + inputs[0].shape.text() + " where " + std::to_string(in_channels_) +
             " channels are needed");
    if (has_residual_) expect_shape(inputs[1], result.shape);
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
  }

  const float* residual(const Call& call) const {
    return has_residual_ ? call.inputs[1].as<float>() : nullptr;
  }

  ferrule_activation activation_;
  bool has_residual_;
  size_t groups_, in_channels_, out_channels_;
};

// Of as many groups as channels, in and out.
std::unique_ptr<Op> make_conv_depthwise(const Node& node, const Weights& weights);

}  // namespace ferrule::executor

#endif
