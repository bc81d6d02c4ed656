// Elements as another dtype. float32 becomes a whole number toward zero, the nearest one where it is out of
// range, 0 where it is NaN; whole numbers wrap around; bool is whether an element is other than 0.
#include <limits>

#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

template <typename To>
To to_whole(float x) {
  // The largest number may round up to one that To does not hold: from there on x is out of range.
  constexpr To kLowest = std::numeric_limits<To>::min(), kHighest = std::numeric_limits<To>::max();
  if (x != x) return 0;
  if (x <= static_cast<float>(kLowest)) return kLowest;
  return x >= static_cast<float>(kHighest) ? kHighest : static_cast<To>(x);
}

template <typename From, typename To>
To convert(From x) {
  if constexpr (std::is_same_v<From, float> && !std::is_same_v<To, float>)
    return to_whole<To>(x);
  else
    return static_cast<To>(x);
}

template <typename From, typename To, typename Fn>
void apply(const Call& call, Fn fn) {
  const From* input = call.inputs[0].as<From>();
  To* result = call.outputs[0].as<To>();
  divide(call.outputs[0].shape().count(), kSmallestPart, call.pool, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) result[i] = fn(input[i]);
  });
}

class Cast : public TensorOp {
 public:
  explicit Cast(const Node& node) : TensorOp(node), dtype_(read_dtype(node, "dtype")) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 1);
    return {{dtype_, inputs[0].shape}};
  }

  void run(const Call& call) const override {
    const Dtype from = call.inputs[0].spec.dtype;
    with_type(from, [&](auto zero) { run_from<decltype(zero)>(call, from == Dtype::kBool); });
  }

 private:
  template <typename From>
  void run_from(const Call& call, bool is_bool) const {
    if (dtype_ == Dtype::kBool)
      return apply<From, uint8_t>(call, [](From x) { return static_cast<uint8_t>(x != 0); });
    with_type(dtype_, [&](auto zero) {
      using To = decltype(zero);
      if (is_bool) return apply<From, To>(call, [](From x) { return static_cast<To>(x != 0); });
      apply<From, To>(call, [](From x) { return convert<From, To>(x); });
    });
  }

  Dtype dtype_;
};

}  // namespace

std::unique_ptr<Op> make_cast(const Node& node) { return std::make_unique<Cast>(node); }

}  // namespace ferrule::executor
