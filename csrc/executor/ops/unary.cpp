// A function of each element. fn: neg, abs of float32, int64 and int32; exp, log, sqrt, rsqrt, reciprocal,
// sin, cos, tanh, sigmoid, erf, floor, ceil, round (half to even), sign of float32.
#include <math.h>

#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

enum Fn {
  kNeg,
  kAbs,
  kExp,
  kLog,
  kSqrt,
  kRsqrt,
  kReciprocal,
  kSin,
  kCos,
  kTanh,
  kSigmoid,
  kErf,
  kFloor,
  kCeil,
  kRound,
  kSign
};

constexpr size_t kSmallestCurved = 1 << 12;  // elements that are worth a thread where each takes a libm call

template <typename T, typename F>
void apply(const Call& call, size_t smallest, F fn) {
  const T* input = call.inputs[0].as<T>();
  T* result = call.outputs[0].as<T>();
  divide(call.outputs[0].shape().count(), smallest, call.pool, [&](size_t begin, size_t end) {
    FERRULE_INDEPENDENT
    for (size_t i = begin; i < end; ++i) result[i] = fn(input[i]);
  });
}

class Unary : public TensorOp {
 public:
  explicit Unary(const Node& node)
      : TensorOp(node),
        fn_(static_cast<Fn>(
            read_choice(node, "fn",
                        {"neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh",
                         "sigmoid", "erf", "floor", "ceil", "round", "sign"}))) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 1);
    const Dtype dtype = inputs[0].dtype;
    const bool takes_whole = fn_ == kNeg || fn_ == kAbs;
    if (!takes_whole || (dtype != Dtype::kInt64 && dtype != Dtype::kInt32))
      require_dtype(inputs[0], Dtype::kFloat32);
    return inputs;
  }

  bool may_overwrite(size_t) const override { return true; }

  void run(const Call& call) const override {
    if (call.inputs[0].spec.dtype == Dtype::kInt64) return run_whole<int64_t, uint64_t>(call);
    if (call.inputs[0].spec.dtype == Dtype::kInt32) return run_whole<int32_t, uint32_t>(call);
    if (!run_straight(call)) run_curved(call);
  }

 private:
  // As unsigned numbers, since the smallest has no opposite.
  template <typename T, typename U>
  void run_whole(const Call& call) const {
    const auto negate = [](T x) { return static_cast<T>(U{0} - static_cast<U>(x)); };
    if (fn_ == kNeg) return apply<T>(call, kSmallestPart, negate);
    apply<T>(call, kSmallestPart, [negate](T x) { return x < 0 ? negate(x) : x; });
  }

  // Returns whether the function is one of those that a few instructions compute.
  bool run_straight(const Call& call) const {
    const auto each = [&call](auto fn) {
      apply<float>(call, kSmallestPart, fn);
      return true;
    };
    switch (fn_) {
      case kNeg:
        return each([](float x) { return -x; });
      case kAbs:
        return each([](float x) { return fabsf(x); });
      case kSqrt:
        return each([](float x) { return sqrtf(x); });
      case kRsqrt:
        return each([](float x) { return 1 / sqrtf(x); });
      case kReciprocal:
        return each([](float x) { return 1 / x; });
      case kFloor:
        return each([](float x) { return floorf(x); });
      case kCeil:
        return each([](float x) { return ceilf(x); });
      case kRound:
        return each([](float x) { return rintf(x); });
      case kSign:
        return each([](float x) { return static_cast<float>((x > 0) - (x < 0)); });
      default:
        return false;
    }
  }

  void run_curved(const Call& call) const {
    const auto each = [&call](auto fn) { apply<float>(call, kSmallestCurved, fn); };
    switch (fn_) {
      case kExp:
        return each([](float x) { return expf(x); });
      case kLog:
        return each([](float x) { return logf(x); });
      case kSin:
        return each([](float x) { return sinf(x); });
      case kCos:
        return each([](float x) { return cosf(x); });
      case kTanh:
        return each([](float x) { return tanhf(x); });
      case kSigmoid:
        return each([](float x) { return 1 / (1 + expf(-x)); });
      default:
        return each([](float x) { return erff(x); });
    }
  }

  Fn fn_;
};

}  // namespace

std::unique_ptr<Op> make_unary(const Node& node) { return std::make_unique<Unary>(node); }

}  // namespace ferrule::executor
