// A function of each element, or f(x) * factor; where `gated`, x and the factor are the halves of each row of
// the one input. {kind, gated}, in [x] or [x, factor].
#include "ferrule/activate.h"

#include "executor/ops/kernel_op.h"

namespace ferrule::executor {

namespace {

class Activate : public KernelOp {
 public:
  explicit Activate(const Node& node) : KernelOp(node) {
    node.use_kernel("activate");
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
    is_gated_ = node.flag("gated");
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 1, is_gated_ ? 1 : 2);
    expect_floats(inputs[0], is_gated_ ? 1 : 0);
    if (inputs.size() == 2) expect_shape(inputs[1], inputs[0].shape);
    if (!is_gated_) return {inputs[0]};
    Spec half = inputs[0];
    if (half.shape.back() % 2 != 0) misfit("rows of " + half.shape.text() + " have no halves");
    half.shape[half.shape.rank - 1] /= 2;
    return {half};
  }

  bool may_overwrite(size_t) const override { return !is_gated_; }

  void run(const Call& call) const override {
    ferrule_activate_args args = {};
    args.kind = kind_;
    args.input = call.inputs[0].as<float>();
    if (call.input_count == 2) args.factor = call.inputs[1].as<float>();
    args.output = call.outputs[0].as<float>();
    const Shape& shape = call.outputs[0].shape();
    args.rows = is_gated_ ? row_count(shape) : 1;
    args.width = is_gated_ ? shape.back() : shape.count();
    args.input_stride = args.factor_stride = args.output_stride = args.width;
    if (is_gated_) {
      args.factor = args.input + args.width;
      args.input_stride = args.factor_stride = 2 * args.width;
    }
    require_ok(ferrule_activate(&args, nullptr, call.pool));
  }

 private:
  int kind_;
  bool is_gated_;
};

}  // namespace

std::unique_ptr<Op> make_activate(const Node& node) { return std::make_unique<Activate>(node); }

}  // namespace ferrule::executor
