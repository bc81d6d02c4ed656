// A function of each element, or f(x) * factor. {kind}, in [x] or [x, factor].
#include "ferrule/activate.h"

#include "executor/ops/kernel_op.h"

namespace ferrule::executor {

namespace {

class Activate : public KernelOp {
 public:
  explicit Activate(const Node& node) : KernelOp(node) {
    constexpr Word kKinds[] = {{"relu", FERRULE_ACTIVATE_RELU},
                               {"relu6", FERRULE_ACTIVATE_RELU6},
                               {"hard_swish", FERRULE_ACTIVATE_HARD_SWISH},
                               {"gelu", FERRULE_ACTIVATE_GELU},
                               {"gelu_tanh", FERRULE_ACTIVATE_GELU_TANH},
                               {"silu", FERRULE_ACTIVATE_SILU},
                               {"sigmoid", FERRULE_ACTIVATE_SIGMOID},
                               {"tanh", FERRULE_ACTIVATE_TANH},
                               {"exp", FERRULE_ACTIVATE_EXP}};
    kind_ = read_word(node, "kind", kKinds);
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 1, 2);
    expect_floats(inputs[0], 0);
    if (inputs.size() == 2) expect_shape(inputs[1], inputs[0].shape);
    return {inputs[0]};
  }

  bool may_overwrite(size_t) const override { return true; }

  void run(const Call& call) const override {
    ferrule_activate_args args = {};
    args.kind = kind_;
    args.input = call.inputs[0].as<float>();
    if (call.input_count == 2) args.factor = call.inputs[1].as<float>();
    args.output = call.outputs[0].as<float>();
    args.rows = 1;
    args.width = call.inputs[0].shape().count();
    args.input_stride = args.factor_stride = args.output_stride = args.width;
    require_ok(ferrule_activate(&args, nullptr, call.pool));
  }

 private:
  int kind_;
};

}  // namespace

std::unique_ptr<Op> make_activate(const Node& node) { return std::make_unique<Activate>(node); }

}  // namespace ferrule::executor
