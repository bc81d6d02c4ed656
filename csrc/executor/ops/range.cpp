// The numbers from `start` to before `end`, every step-th (1 where it is not said; not 0). dtype: int64
// (where it is not said), int32 or float32. No inputs.
#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

class Range : public TensorOp {
 public:
  explicit Range(const Node& node)
      : TensorOp(node),
        dtype_(node.has("dtype") ? read_dtype(node, "dtype") : Dtype::kInt64),
        step_(node.integer("step", 1)),
        start_(node.expression("start")),
        end_(node.expression("end")) {
    if (dtype_ != Dtype::kInt64 && dtype_ != Dtype::kInt32 && dtype_ != Dtype::kFloat32)
      node.refuse("there is no range of " + std::string(name_of(dtype_)));
    if (step_ == 0) node.refuse("`step` is 0");
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths& lengths) override {
    require_inputs(inputs, 0);
    const int64_t start = start_.evaluate(lengths), end = end_.evaluate(lengths);
    const auto low = static_cast<uint64_t>(step_ > 0 ? start : end);
    const auto high = static_cast<uint64_t>(step_ > 0 ? end : start);
    const uint64_t step =
        step_ > 0 ? static_cast<uint64_t>(step_) : uint64_t{0} - static_cast<uint64_t>(step_);
    const bool is_empty = step_ > 0 ? start >= end : start <= end;
    Shape shape;
    shape.push(is_empty ? 0 : (high - low - 1) / step + 1);
    shape.check();
    if (dtype_ == Dtype::kInt32 && !is_empty && (!fits(start) || !fits(last(start, shape[0]))))
      misfit("its numbers are too large for int32");
    return {{dtype_, shape}};
  }

  void run(const Call& call) const override {
    const int64_t start = start_.evaluate(*call.lengths);
    const size_t count = call.outputs[0].shape()[0];
    with_type(dtype_, [&](auto zero) {
      using T = decltype(zero);
      T* result = call.outputs[0].as<T>();
      for (size_t i = 0; i < count; ++i) result[i] = static_cast<T>(start + static_cast<int64_t>(i) * step_);
    });
  }

 private:
  static bool fits(int64_t number) { return number >= INT32_MIN && number <= INT32_MAX; }
  int64_t last(int64_t start, size_t count) const { return start + static_cast<int64_t>(count - 1) * step_; }

  Dtype dtype_;
  int64_t step_;
  Expression start_, end_;
};

}  // namespace

std::unique_ptr<Op> make_range(const Node& node) { return std::make_unique<Range>(node); }

}  // namespace ferrule::executor
