// y = activation(x . weight^T + bias) + residual, weights of any codec.
// {kind, weight | codes, scales, table; bits, group; bias, input, input_scale, input_zero, activation,
// residual}, in [x [..., k]] or [x, residual [..., n]].
#include "ferrule/linear.h"

#include "executor/ops/kernel_op.h"
#include "executor/ops/packed.h"

namespace ferrule::executor {

namespace {

class Linear : public KernelOp {
 public:
  explicit Linear(const Node& node)
      : KernelOp(node),
        activation_(read_activation(node)),
        has_residual_(node.flag("residual")),
        packed_(pack_linear(node)),
        rows_(packed_->rows),
        depth_(packed_->depth) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    const size_t count = has_residual_ ? 2 : 1;
    require_inputs(inputs, count, count);
    expect_floats(inputs[0], 1);
    Spec result = inputs[0];
    if (result.shape.back() != depth_)
      misfit("its input is " + result.shape.text() + " where [..., " + std::to_string(depth_) +
             "] is needed");
    result.shape[result.shape.rank - 1] = rows_;
    result.shape.check();
    if (has_residual_) expect_shape(inputs[1], result.shape);
    return {result};
  }

  size_t scratch(const std::vector<Spec>& inputs, size_t threads) const override {
    return ferrule_linear_scratch(packed_->memory.get(), packed_->bytes, row_count(inputs[0].shape), threads);
  }

  bool may_overwrite(size_t index) const override { return index == 1; }  // the residual

  void run(const Call& call) const override {
    ferrule_linear_args args = {};
    args.packed = packed_->memory.get();
    args.packed_bytes = packed_->bytes;
    args.input = call.inputs[0].as<float>();
    args.input_stride = depth_;
    args.output = call.outputs[0].data;
    args.output_stride = rows_;
    args.m = row_count(call.inputs[0].shape());
    args.epilogue.activation = activation_;
    if (has_residual_) args.epilogue.residual = call.inputs[1].as<float>();
    args.epilogue.residual_stride = rows_;
    require_ok(ferrule_linear(&args, call.scratch, call.pool));
  }

 private:
  ferrule_activation activation_;
  bool has_residual_;
  std::shared_ptr<const PackedWeights> packed_;
  size_t rows_, depth_;
};

}  // namespace

std::unique_ptr<Op> make_linear(const Node& node) { return std::make_unique<Linear>(node); }

}  // namespace ferrule::executor
