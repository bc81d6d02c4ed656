// Softmax over the last axis. {}, in [x].
#include "ferrule/softmax.h"

#include "executor/ops/kernel_op.h"

namespace ferrule::executor {

namespace {

class Softmax : public KernelOp {
 public:
  explicit Softmax(const Node& node) : KernelOp(node) { node.use_kernel("softmax"); }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 1, 1);
    expect_floats(inputs[0], 1);
    return {inputs[0]};
  }

  bool may_overwrite(size_t) const override { return true; }

  void run(const Call& call) const override {
    const Shape& shape = call.inputs[0].shape();
    ferrule_softmax_args args = {};
    args.input = call.inputs[0].as<float>();
    args.output = call.outputs[0].as<float>();
    args.rows = row_count(shape);
    args.width = args.input_stride = args.output_stride = shape.back();
    args.scale = 1;
    require_ok(ferrule_softmax(&args, nullptr, call.pool));
  }
};

}  // namespace

std::unique_ptr<Op> make_softmax(const Node& node) { return std::make_unique<Softmax>(node); }

}  // namespace ferrule::executor
