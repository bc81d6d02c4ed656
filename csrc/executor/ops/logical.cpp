// Logic of bool operands with broadcasting. fn: and, or, xor of inputs a and b (or a and `value`); not of a.
#include "executor/ops/operands.h"

namespace ferrule::executor {

namespace {

class Logical : public OperandsOp {
 public:
  explicit Logical(const Node& node)
      : OperandsOp(node), fn_(static_cast<Fn>(read_choice(node, "fn", {"and", "or", "xor", "not"}))) {
    if (fn_ != kNot) return;
    if (has_value_) node.refuse("`not` takes no `value`");
    has_value_ = true;  // not a: a xor 1
    value_.whole = 1;
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    const Shape shape = infer_operands(inputs);
    require_dtype(inputs[0], Dtype::kBool);
    return {{Dtype::kBool, shape}};
  }

  bool may_overwrite(size_t) const override { return true; }

  void run(const Call& call) const override {
    using B = uint8_t;
    switch (fn_) {
      case kAnd:
        return apply<B, B>(call, [](B a, B b) -> B { return (a != 0) & (b != 0); });
      case kOr:
        return apply<B, B>(call, [](B a, B b) -> B { return (a | b) != 0; });
      case kXor:
      case kNot:
        return apply<B, B>(call, [](B a, B b) -> B { return (a != 0) != (b != 0); });
    }
  }

 private:
  enum Fn { kAnd, kOr, kXor, kNot };
  Fn fn_;
};

}  // namespace

std::unique_ptr<Op> make_logical(const Node& node) { return std::make_unique<Logical>(node); }

}  // namespace ferrule::executor
