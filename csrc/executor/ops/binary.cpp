// Arithmetic of two operands with broadcasting. fn: add, sub, mul, div, pow, max, min, remainder,
// floor_divide; inputs a and b, or a alone with `value` for b (for a where `reversed`). float32; but for div
// and pow int64 and int32 as well, which wrap around.
#include <math.h>

#include "executor/ops/operands.h"

namespace ferrule::executor {

namespace {

enum Fn { kAdd, kSub, kMul, kDiv, kPow, kMax, kMin, kRemainder, kFloorDivide };

// Integers are computed as unsigned ones, whose overflow is defined.
template <typename T>
struct Wrapping {
  using Type = std::make_unsigned_t<T>;
};
template <>
struct Wrapping<float> {
  using Type = float;
};

// With the sign of the divisor.
float remainder_of(float a, float b) {
  const float rest = fmodf(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

// floor(a / b) as the remainder has it, so that a = b * quotient + remainder as nearly as rounding lets it.
float floor_divide(float a, float b) {
  if (b == 0) return a / b;
  const float rest = fmodf(a, b);
  const float quotient = (a - rest) / b - (rest != 0 && (rest < 0) != (b < 0) ? 1.0f : 0.0f);
  if (quotient == 0) return copysignf(0, a / b);
  const float whole = floorf(quotient);
  return quotient - whole > 0.5f ? whole + 1 : whole;
}

// Division by 0 gives 0, as in numpy; by -1 it must not trap where the quotient overflows.
template <typename T>
T remainder_of(T a, T b) {
  if (b == 0 || b == -1) return 0;
  const T rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

template <typename T>
T floor_divide(T a, T b) {
  using U = std::make_unsigned_t<T>;
  if (b == 0) return 0;
  if (b == -1) return static_cast<T>(U{0} - static_cast<U>(a));
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

class Binary : public OperandsOp {
 public:
  explicit Binary(const Node& node)
      : OperandsOp(node),
        fn_(static_cast<Fn>(read_choice(
            node, "fn", {"add", "sub", "mul", "div", "pow", "max", "min", "remainder", "floor_divide"}))) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    const Shape shape = infer_operands(inputs);
    const Dtype dtype = inputs[0].dtype;
    const bool is_real = dtype == Dtype::kFloat32,
               is_whole = dtype == Dtype::kInt64 || dtype == Dtype::kInt32;
    if (!is_real && !(is_whole && fn_ != kDiv && fn_ != kPow))
      misfit("it does not take " + std::string(name_of(dtype)));
    return {{dtype, shape}};
  }

  bool may_overwrite(size_t) const override { return true; }

  void run(const Call& call) const override {
    switch (call.inputs[0].spec.dtype) {
      case Dtype::kFloat32:
        return run_real(call);
      case Dtype::kInt64:
        return run_as<int64_t>(call);
      default:
        return run_as<int32_t>(call);
    }
  }

 private:
  void run_real(const Call& call) const {
    const bool has_exponent = fn_ == kPow && has_value_ && !is_reversed_;
    if (has_exponent && value_.real == 2)
      return apply<float, float>(call, [](float a, float) { return a * a; });
    if (has_exponent && value_.real == 3)
      return apply<float, float>(call, [](float a, float) { return a * a * a; });
    if (fn_ == kPow) return apply<float, float>(call, [](float a, float b) { return powf(a, b); });
    if (fn_ == kDiv) return apply<float, float>(call, [](float a, float b) { return a / b; });
    run_as<float>(call);
  }

  template <typename T>
  void run_as(const Call& call) const {
    using U = typename Wrapping<T>::Type;
    switch (fn_) {
      case kAdd:
        return apply<T, T>(call,
                           [](T a, T b) { return static_cast<T>(static_cast<U>(a) + static_cast<U>(b)); });
      case kSub:
        return apply<T, T>(call,
                           [](T a, T b) { return static_cast<T>(static_cast<U>(a) - static_cast<U>(b)); });
      case kMul:
        return apply<T, T>(call,
                           [](T a, T b) { return static_cast<T>(static_cast<U>(a) * static_cast<U>(b)); });
      // NaN of either operand comes through.
      case kMax:
        return apply<T, T>(call, [](T a, T b) { return ((a > b) | (a != a)) ? a : b; });
      case kMin:
        return apply<T, T>(call, [](T a, T b) { return ((a < b) | (a != a)) ? a : b; });
      case kRemainder:
        return apply<T, T>(call, [](T a, T b) { return remainder_of(a, b); });
      default:
        return apply<T, T>(call, [](T a, T b) { return floor_divide(a, b); });
    }
  }

  Fn fn_;
};

}  // namespace

std::unique_ptr<Op> make_binary(const Node& node) { return std::make_unique<Binary>(node); }

}  // namespace ferrule::executor
