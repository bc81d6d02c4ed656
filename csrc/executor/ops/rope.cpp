// Rotary position embedding by ferrule/rope.h, of the first `heads` heads (all of them where it is not said).
// {layout: bshd | bhsd, pairs: halves | neighbours, heads}, in [x of four axes, cosines, sines]: tables of
// [1 or batch, tokens, rotary / 2], or with further axes of length 1.
#include "ferrule/rope.h"

#include <string.h>

#include "executor/ops/kernel_op.h"

namespace ferrule::executor {

namespace {

class Rope : public KernelOp {
 public:
  explicit Rope(const Node& node) : KernelOp(node) {
    node.use_kernel("rope");
    constexpr Word kPairs[] = {{"halves", FERRULE_ROPE_HALVES}, {"neighbours", FERRULE_ROPE_NEIGHBOURS}};
    pairs_ = read_word(node, "pairs", kPairs);
    tokens_first_ = read_choice(node, "layout", {"bshd", "bhsd"}) == 0;
    heads_ = require_size(node, "heads", node.integer("heads", 0), 0);
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 3);
    const Shape& x = inputs[0].shape;
    expect_floats(inputs[0], 4);
    if (x.rank != 4 || x[head_axis()] < heads_) misfit("its input " + x.text() + " has not those heads");
    const Shape& table = inputs[1].shape;
    expect_floats(inputs[1], 2);
    expect_shape(inputs[2], table);
    const size_t batches = count_axes(table, 0, table.rank - 2);
    if (table[table.rank - 2] != x[token_axis()] || table.back() > x[3] / 2 ||
        (batches != 1 && batches != x[0]))
      misfit("its tables " + table.text() + " do not fit " + x.text());
    return {inputs[0]};
  }

  bool may_overwrite(size_t index) const override { return index == 0; }

  void run(const Call& call) const override {
    const Shape &x = call.inputs[0].shape(), &table = call.inputs[1].shape();
    if (x.count() == 0) return;
    const float* input = call.inputs[0].as<float>();
    auto* output = call.outputs[0].as<float>();
    // Heads that are not turned are there already where the result takes the place of the input.
    if (output != input && heads_ && heads_ < x[head_axis()])
      memcpy(output, input, call.outputs[0].spec.bytes());
    const size_t each = count_axes(x, 1, 4), rows = x[token_axis()] * table.back();
    const size_t step = count_axes(table, 0, table.rank - 2) == 1 ? 0 : rows;
    ferrule_rope_args args = describe(x, table.back());
    for (size_t batch = 0; batch < x[0]; ++batch) {
      args.input = input + batch * each;
      args.output = output + batch * each;
      args.cosines = call.inputs[1].as<float>() + batch * step;
      args.sines = call.inputs[2].as<float>() + batch * step;
      require_ok(ferrule_rope(&args, nullptr, call.pool));
    }
  }

 private:
  size_t token_axis() const { return tokens_first_ ? 1 : 2; }
  size_t head_axis() const { return tokens_first_ ? 2 : 1; }

  ferrule_rope_args describe(const Shape& x, size_t half) const {
    ferrule_rope_args args = {};
    args.pairs = pairs_;
    args.tokens = args.table_rows = x[token_axis()];
    args.heads = heads_ ? heads_ : x[head_axis()];
    args.width = x[3];
    args.rotary = 2 * half;
    args.input_token_stride = args.output_token_stride = tokens_first_ ? x[2] * x[3] : x[3];
    args.input_head_stride = args.output_head_stride = tokens_first_ ? x[3] : x[2] * x[3];
    return args;
  }

  int pairs_;
  bool tokens_first_;
  size_t heads_;
};

}  // namespace

std::unique_ptr<Op> make_rope(const Node& node) { return std::make_unique<Rope>(node); }

}  // namespace ferrule::executor
