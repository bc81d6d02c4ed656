// Comparison of two operands with broadcasting; the result is bool. fn: eq, ne, lt, le, gt, ge; inputs a and
// b, or a alone with `value` for b (for a where `reversed`), of any dtype.
#include "executor/ops/operands.h"

namespace ferrule::executor {

namespace {

// Each fn is [a < b] or [a == b] or both, negated or not, of operands in their order or the other: one loop
// for all of them, since six for each type are large.
class Compare : public OperandsOp {
 public:
  explicit Compare(const Node& node) : OperandsOp(node) {
    enum { kEq, kNe, kLt, kLe, kGt, kGe };
    const size_t fn = read_choice(node, "fn", {"eq", "ne", "lt", "le", "gt", "ge"});
    less_ = fn >= kLt;
    equal_ = fn != kLt && fn != kGt;
    negated_ = fn == kNe;
    if (fn >= kGt) is_reversed_ = !is_reversed_;
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    return {{Dtype::kBool, infer_operands(inputs)}};
  }

  void run(const Call& call) const override {
    with_type(call.inputs[0].spec.dtype, [&](auto zero) {
      using T = decltype(zero);
      const uint8_t less = less_, equal = equal_, negated = negated_;
      apply<T, uint8_t>(call, [=](T a, T b) {
        const int holds = ((a < b) & less) | ((a == b) & equal);
        return static_cast<uint8_t>(holds ^ negated);
      });
    });
  }

 private:
  bool less_, equal_, negated_;
};

}  // namespace

std::unique_ptr<Op> make_compare(const Node& node) { return std::make_unique<Compare>(node); }

}  // namespace ferrule::executor
