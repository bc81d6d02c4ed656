// Tokens that a plan (token_match) merges, as means weighted by size, by ferrule/tokens.h; and what they then
// stand for. {left, results: 2}, in [x [batch, tokens, width], plan] or [x, plan, sizes [batch, tokens]];
// results [batch, left, width] and [batch, left].
#include <algorithm>

#include "executor/ops/kernel_op.h"
#include "ferrule/tokens.h"

namespace ferrule::executor {

namespace {

class TokenMerge : public KernelOp {
 public:
  explicit TokenMerge(const Node& node) : KernelOp(node), left_(node.expression("left")) {
    node.use_kernel("token_merge");
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths& lengths) override {
    require_inputs(inputs, 2, 3);
    expect_floats(inputs[0], 3);
    const Shape& x = inputs[0].shape;
    if (x.rank != 3) misfit("its tokens " + x.text() + " have more than three axes");
    Shape plan;
    plan.push(x[0]);
    plan.push(x[1]);
    expect(inputs[1], Dtype::kInt32, plan);
    if (inputs.size() == 3) expect_shape(inputs[2], plan);
    const int64_t left = left_.evaluate(lengths);
    if (left < 1 || left > INT32_MAX) misfit("`left` is " + std::to_string(left));
    Spec merged = inputs[0], sizes;
    merged.shape[1] = static_cast<size_t>(left);
    sizes.shape.push(x[0]);
    sizes.shape.push(static_cast<size_t>(left));
    return {merged, sizes};
  }

  void run(const Call& call) const override {
    const Shape& x = call.inputs[0].shape();
    ferrule_token_merge_args args = {};
    args.input = call.inputs[0].as<float>();
    args.plan = call.inputs[1].as<int32_t>();
    if (call.input_count == 3) args.sizes = call.inputs[2].as<float>();
    args.output = call.outputs[0].as<float>();
    args.merged_sizes = call.outputs[1].as<float>();
    args.batch = x[0];
    args.tokens = x[1];
    args.left = call.outputs[0].shape()[1];
    args.width = args.input_stride = args.output_stride = x[2];
    args.input_batch_stride = args.tokens * args.width;
    args.output_batch_stride = args.left * args.width;
    if (is_empty(args)) return fill_nothing(call);
    require_ok(ferrule_token_merge(&args, nullptr, call.pool));
  }

 private:
  static bool is_empty(const ferrule_token_merge_args& args) {
    return args.batch == 0 || args.tokens == 0 || args.width == 0;
  }

  // Of no tokens come none, of size 0.
  static void fill_nothing(const Call& call) {
    for (size_t i = 0; i < 2; ++i) {
      float* result = call.outputs[i].as<float>();
      std::fill_n(result, call.outputs[i].shape().count(), 0.0f);
    }
  }

  Expression left_;
};

}  // namespace

std::unique_ptr<Op> make_token_merge(const Node& node) { return std::make_unique<TokenMerge>(node); }

}  // namespace ferrule::executor
