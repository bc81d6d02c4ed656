// Which tokens merge, by ferrule/tokens.h: int32 [batch, tokens], for each token the position of the one
// after that it goes into. {heads, kv_heads, layout: bshd | bhsd | qkv, protected, count | padded}, in [keys]
// or, where rows are `padded`, [keys, sizes [batch, tokens], counts int32 [batch]]. Keys lie as those of
// attention.
#include "executor/ops/kernel_op.h"
#include "ferrule/tokens.h"

namespace ferrule::executor {

namespace {

class TokenMatch : public KernelOp {
 public:
  explicit TokenMatch(const Node& node) : KernelOp(node), padded_(node.flag("padded")) {
    node.use_kernel("token_match");
    constexpr Word kLayouts[] = {{"bshd", kBshd}, {"bhsd", kBhsd}, {"qkv", kQkv}};
    layout_ = static_cast<Layout>(read_word(node, "layout", kLayouts));
    heads_ = require_size(node, "heads", node.integer("heads"), 1);
    kv_heads_ = require_size(node, "kv_heads", node.integer("kv_heads"), 1);
    protected_ = require_size(node, "protected", node.integer("protected"), 0);
    count_ = require_size(node, "count", node.integer("count", 0), 0);
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    const size_t count = padded_ ? 3 : 1;
    require_inputs(inputs, count, count);
    expect_floats(inputs[0], 3);
    const Shape& keys = inputs[0].shape;
    if (!fits_layout(keys)) misfit("its keys " + keys.text() + " do not fit its heads");
    const ferrule_token_match_args args = describe(keys);
    Shape plan;
    plan.push(args.batch);
    plan.push(args.tokens);
    if (padded_) {
      expect_shape(inputs[1], plan);
      require_dtype(inputs[2], Dtype::kInt32);
      if (inputs[2].shape.rank != 1 || inputs[2].shape[0] != args.batch)
        misfit("its counts are " + inputs[2].shape.text() + " where one for each row is needed");
    }
    if (!ferrule_token_match_scratch(&args, 1)) misfit("its keys " + keys.text() + " are too large");
    return {{Dtype::kInt32, plan}};
  }

  size_t scratch(const std::vector<Spec>& inputs, size_t threads) const override {
    const ferrule_token_match_args args = describe(inputs[0].shape);
    return ferrule_token_match_scratch(&args, threads);
  }

  void run(const Call& call) const override {
    ferrule_token_match_args args = describe(call.inputs[0].shape());
    const size_t before = layout_ == kQkv ? heads_ * args.width : 0;  // the queries
    args.metric = call.inputs[0].as<float>() + before;
    args.plan = call.outputs[0].as<int32_t>();
    if (padded_) {
      args.sizes = call.inputs[1].as<float>();
      args.counts = call.inputs[2].as<int32_t>();
    }
    require_ok(ferrule_token_match(&args, nullptr, call.pool, call.scratch));
  }

 private:
  enum Layout { kBshd, kBhsd, kQkv };

  bool fits_layout(const Shape& keys) const {
    if (layout_ == kQkv) return keys.rank == 3 && keys[2] && keys[2] % (heads_ + 2 * kv_heads_) == 0;
    if (keys.rank == 3) return layout_ == kBshd && keys[2] && keys[2] % kv_heads_ == 0;
    return keys.rank == 4 && keys[3] && keys[layout_ == kBhsd ? 1 : 2] == kv_heads_;
  }

  // Sizes and strides of keys that fit.
  ferrule_token_match_args describe(const Shape& keys) const {
    const bool bhsd = layout_ == kBhsd;
    ferrule_token_match_args args = {};
    args.batch = keys[0];
    args.heads = kv_heads_;
    args.tokens = keys[bhsd ? 2 : 1];
    args.width = keys.rank == 4 ? keys[3] : keys[2] / (layout_ == kQkv ? heads_ + 2 * kv_heads_ : kv_heads_);
    args.token_stride = bhsd ? args.width : layout_ == kQkv ? keys[2] : kv_heads_ * args.width;
    args.head_stride = bhsd ? args.tokens * args.width : args.width;
    args.batch_stride = count_axes(keys, 1, keys.rank);
    args.protected_tokens = protected_;
    args.count = count_;
    return args;
  }

  Layout layout_;
  bool padded_;
  size_t heads_, kv_heads_, protected_, count_;
};

}  // namespace

std::unique_ptr<Op> make_token_match(const Node& node) { return std::make_unique<TokenMatch>(node); }

}  // namespace ferrule::executor
