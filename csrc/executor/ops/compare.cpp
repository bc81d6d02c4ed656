// Comparison of two operands with broadcasting; the result is bool. fn: eq, ne, lt, le, gt, ge; inputs a and
// b, or a alone with `value` for b (for a where `reversed`), of any dtype.
#include "executor/ops/operands.h"

namespace ferrule::executor {

namespace {

class Compare : public OperandsOp {
 public:
  explicit Compare(const Node& node)
      : OperandsOp(node),
        fn_(static_cast<Fn>(read_choice(node, "fn", {"eq", "ne", "lt", "le", "gt", "ge"}))) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    return {{Dtype::kBool, infer_operands(inputs)}};
  }

  void run(const Call& call) const override {
    with_type(call.inputs[0].spec.dtype, [&](auto zero) { run_as<decltype(zero)>(call); });
  }

 private:
  enum Fn { kEq, kNe, kLt, kLe, kGt, kGe };

  template <typename T>
  void run_as(const Call& call) const {
    using R = uint8_t;
    switch (fn_) {
      case kEq:
        return apply<T, R>(call, [](T a, T b) -> R { return a == b; });
      case kNe:
        return apply<T, R>(call, [](T a, T b) -> R { return a != b; });
      case kLt:
        return apply<T, R>(call, [](T a, T b) -> R { return a < b; });
      case kLe:
        return apply<T, R>(call, [](T a, T b) -> R { return a <= b; });
      case kGt:
        return apply<T, R>(call, [](T a, T b) -> R { return a > b; });
      case kGe:
        return apply<T, R>(call, [](T a, T b) -> R { return a >= b; });
    }
  }

  Fn fn_;
};

}  // namespace

std::unique_ptr<Op> make_compare(const Node& node) { return std::make_unique<Compare>(node); }

}  // namespace ferrule::executor
