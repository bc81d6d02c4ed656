// The same elements under another shape: a view. shape: lengths, of which one may be -1, which follows from
// the others.
#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

class Reshape : public TensorOp {
 public:
  explicit Reshape(const Node& node) : TensorOp(node), shape_(node.expressions("shape")) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths& lengths) override {
    require_inputs(inputs, 1);
    Shape shape;
    size_t open = kMostRank;  // the axis whose length is -1
    for (const int64_t dim : evaluate(shape_, lengths, true)) {
      if (dim < 0 && open < kMostRank) misfit("`shape` has several lengths of -1");
      if (dim < 0) open = shape.rank;
      shape.push(dim < 0 ? 1 : static_cast<size_t>(dim));
    }
    shape.check();
    const size_t known = shape.count(), count = inputs[0].shape.count();
    if (open < kMostRank && known && count % known == 0) shape[open] = count / known;
    if (shape.count() != count || (open < kMostRank && !known))
      misfit("shape " + inputs[0].shape.text() + " does not become " + shape.text());
    return {{inputs[0].dtype, shape}};
  }

  bool is_view() const override { return true; }
  void run(const Call&) const override {}

 private:
  std::vector<Expression> shape_;
};

}  // namespace

std::unique_ptr<Op> make_reshape(const Node& node) { return std::make_unique<Reshape>(node); }

}  // namespace ferrule::executor
