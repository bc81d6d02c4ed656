// A shape full of one number. shape, value, dtype; no inputs.
#include <algorithm>

#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

class Fill : public TensorOp {
 public:
  explicit Fill(const Node& node)
      : TensorOp(node),
        dtype_(read_dtype(node, "dtype")),
        value_(read_number(node, "value")),
        shape_(node.expressions("shape")) {
    if (!value_.fits(dtype_)) node.refuse("`value` is no " + std::string(name_of(dtype_)));
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths& lengths) override {
    require_inputs(inputs, 0);
    Shape shape;
    for (const int64_t dim : evaluate(shape_, lengths, false)) shape.push(static_cast<size_t>(dim));
    return {{dtype_, shape}};
  }

  void run(const Call& call) const override {
    with_type(dtype_, [&](auto zero) {
      using T = decltype(zero);
      const T value = value_.as<T>();
      T* result = call.outputs[0].as<T>();
      divide(call.outputs[0].shape().count(), kSmallestPart * 4, call.pool,
             [&](size_t begin, size_t end) { std::fill(result + begin, result + end, value); });
    });
  }

 private:
  Dtype dtype_;
  Number value_;
  std::vector<Expression> shape_;
};

}  // namespace

std::unique_ptr<Op> make_fill(const Node& node) { return std::make_unique<Fill>(node); }

}  // namespace ferrule::executor
