// What layer_norm and rms_norm share.
#ifndef FERRULE_EXECUTOR_OPS_NORM_H
#define FERRULE_EXECUTOR_OPS_NORM_H

#include <type_traits>

#include "executor/ops/kernel_op.h"
#include "ferrule/layer_norm.h"
#include "ferrule/rms_norm.h"

namespace ferrule::executor {

template <typename Args>
class Norm : public KernelOp {
 public:
  using Kernel = ferrule_status(const Args*, const char*, ferrule_pool*);

  Norm(const Node& node, Kernel* kernel) : KernelOp(node), kernel_(kernel) {
    node.use_kernel(kHasBias ? "layer_norm" : "rms_norm");
    axes_ = require_size(node, "axes", node.integer("axes", 1), 1);
    epsilon_ = read_float(node, "epsilon");
    if (epsilon_ < 0) node.refuse("`epsilon` is negative");
    if (axes_ > kMostRank) node.refuse("`axes` is out of range");
    if (node.has("weight")) weight_ = node.constant("weight", Dtype::kFloat32, axes_);
    if (kHasBias && node.has("bias")) bias_ = node.constant("bias", Dtype::kFloat32, axes_);
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 1, 2);
    expect_floats(inputs[0], axes_);
    if (inputs.size() == 2) expect_shape(inputs[1], inputs[0].shape);
    Shape normalized;
    for (size_t axis = inputs[0].shape.rank - axes_; axis < inputs[0].shape.rank; ++axis)
      normalized.push(inputs[0].shape[axis]);
    for (const Constant* constant : {&weight_, &bias_}) {
      if (constant->memory) expect_shape(constant->spec, normalized);
    }
    return {inputs[0]};
  }

  bool may_overwrite(size_t index) const override { return index == 0; }

  void run(const Call& call) const override {
    const Shape& shape = call.inputs[0].shape();
    Args args = {};
    args.input = call.inputs[0].as<float>();
    if (call.input_count == 2) args.residual = call.inputs[1].template as<float>();
    args.weight = weight_.as<float>();
    if constexpr (kHasBias) args.bias = bias_.as<float>();
    args.output = call.outputs[0].as<float>();
    args.rows = args.width = 1;
    for (size_t axis = 0; axis < shape.rank; ++axis)
      (axis + axes_ < shape.rank ? args.rows : args.width) *= shape[axis];
    args.input_stride = args.residual_stride = args.output_stride = args.sum_stride = args.width;
    args.epsilon = epsilon_;
    require_ok(kernel_(&args, nullptr, call.pool));
  }

 private:
  static constexpr bool kHasBias = std::is_same_v<Args, ferrule_layer_norm_args>;
  Kernel* kernel_;
  size_t axes_;
  float epsilon_;
  Constant weight_, bias_;
};

}  // namespace ferrule::executor

#endif
