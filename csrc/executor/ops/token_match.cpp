// Which tokens merge, by ferrule/tokens.h: int32 [batch, tokens], for each token the position of the one
// after that it goes into. {heads, kv_heads, layout: bshd | bhsd | qkv, protected, count, sizes, counts}, in
// [keys, sizes [batch, tokens], counts int32 [batch]], the last two where their flags say so; counts stand in
// for `count`. Keys lie as those of attention. With `results` of 2 the second is how many tokens are left,
// int32 [batch].
#include <algorithm>

#include "executor/ops/kernel_op.h"
#include "ferrule/tokens.h"

namespace ferrule::executor {

namespace {

class TokenMatch : public KernelOp {
 public:
  explicit TokenMatch(const Node& node)
      : KernelOp(node),
        has_sizes_(node.flag("sizes")),
        has_counts_(node.flag("counts")),
        gives_left_(node.integer("results", 1) == 2),
        protected_(node.expression("protected")),
        count_(node.has("count") ? node.expression("count") : Expression(0)) {
    node.use_kernel("token_match");
    constexpr Word kLayouts[] = {{"bshd", kBshd}, {"bhsd", kBhsd}, {"qkv", kQkv}};
    layout_ = static_cast<Layout>(read_word(node, "layout", kLayouts));
    heads_ = require_size(node, "heads", node.integer("heads"), 1);
    kv_heads_ = require_size(node, "kv_heads", node.integer("kv_heads"), 1);
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths& lengths) override {
    require_inputs(inputs, 1 + has_sizes_ + has_counts_);
    expect_floats(inputs[0], 3);
    const Shape& keys = inputs[0].shape;
    if (!fits_layout(keys)) misfit("its keys " + keys.text() + " do not fit its heads");
    ferrule_token_match_args args = describe(keys);
    read_numbers(lengths, &args);
    Shape plan, batch;
    batch.push(args.batch);
    plan.push(args.batch);
    plan.push(args.tokens);
    if (has_sizes_) expect_shape(inputs[1], plan);
    if (has_counts_) expect(inputs.back(), Dtype::kInt32, batch);
    if (!ferrule_token_match_scratch(&args, 1)) misfit("its keys " + keys.text() + " are too large");
    const Spec spec{Dtype::kInt32, plan};
    return gives_left_ ? std::vector<Spec>{spec, {Dtype::kInt32, batch}} : std::vector<Spec>{spec};
  }

  size_t scratch(const std::vector<Spec>& inputs, size_t threads) const override {
    const ferrule_token_match_args args = describe(inputs[0].shape);
    return ferrule_token_match_scratch(&args, threads);
  }

  void run(const Call& call) const override {
    ferrule_token_match_args args = describe(call.inputs[0].shape());
    read_numbers(*call.lengths, &args);
    const size_t before = layout_ == kQkv ? heads_ * args.width : 0;  // the queries
    args.metric = call.inputs[0].as<float>() + before;
    args.plan = call.outputs[0].as<int32_t>();
    if (has_sizes_) args.sizes = call.inputs[1].as<float>();
    if (has_counts_) args.counts = call.inputs[call.input_count - 1].as<int32_t>();
    if (gives_left_) args.left = call.outputs[1].as<int32_t>();
    if (args.left && args.tokens == 0) std::fill_n(args.left, args.batch, 0);
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
    return args;
  }

  void read_numbers(const Lengths& lengths, ferrule_token_match_args* args) const {
    const int64_t kept = protected_.evaluate(lengths), count = count_.evaluate(lengths);
    if (kept < 0 || kept > INT32_MAX || count < 0 || count > INT32_MAX)
      misfit("its `protected` or `count` is out of range");
    args->protected_tokens = static_cast<size_t>(kept);
    args->count = static_cast<size_t>(count);
  }

  Layout layout_;
  bool has_sizes_, has_counts_, gives_left_;
  size_t heads_, kv_heads_;
  Expression protected_, count_;
};

}  // namespace

std::unique_ptr<Op> make_token_match(const Node& node) { return std::make_unique<TokenMatch>(node); }

}  // namespace ferrule::executor
