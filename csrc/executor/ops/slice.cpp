// Every step-th index of an axis from `start` to before `end`, both counted from the end where they are
// negative. step: 1 where it is not said.
#include <string.h>

#include <algorithm>

#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

class Slice : public TensorOp {
 public:
  explicit Slice(const Node& node)
      : TensorOp(node),
        axis_(node.integer("axis")),
        step_(node.integer("step", 1)),
        start_(node.expression("start")),
        end_(node.expression("end")) {
    if (step_ < 1) node.refuse("`step` is not positive");
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths& lengths) override {
    require_inputs(inputs, 1);
    Shape shape = inputs[0].shape;
    size_t& dim = shape[require_axis(axis_, shape.rank)];
    const int64_t start = clamp(start_, lengths, dim), end = clamp(end_, lengths, dim);
    dim = start < end ? static_cast<size_t>((end - start - 1) / step_ + 1) : 0;
    return {{inputs[0].dtype, shape}};
  }

  void run(const Call& call) const override {
    if (step_ == 1) return copy_runs(call);
    with_size(call.outputs[0].spec.dtype, [&](auto zero) { pick<decltype(zero)>(call); });
  }

 private:
  static int64_t clamp(const Expression& expression, const Lengths& lengths, size_t dim) {
    const auto size = static_cast<int64_t>(dim);
    const int64_t place = expression.evaluate(lengths);
    return place < 0 ? std::max<int64_t>(place + size, 0) : std::min(place, size);
  }

  // The input and result as [outer][axis][inner].
  struct Parts {
    size_t outer, from, to, inner, start;
  };
  Parts divide_axes(const Call& call) const {
    const Shape &input = call.inputs[0].shape(), &result = call.outputs[0].shape();
    const auto axis = static_cast<size_t>(axis_);
    const auto start = static_cast<size_t>(clamp(start_, *call.lengths, input[axis]));
    return {count_axes(input, 0, axis), input[axis], result[axis], count_axes(input, axis + 1, input.rank),
            start};
  }

  void copy_runs(const Call& call) const {
    const Parts parts = divide_axes(call);
    const size_t unit = parts.inner * size_of(call.outputs[0].spec.dtype), bytes = parts.to * unit;
    const auto* input = call.inputs[0].as<unsigned char>() + parts.start * unit;
    auto* result = call.outputs[0].as<unsigned char>();
    if (bytes == 0) return;
    divide(parts.outer, kSmallestPart * 4 / bytes + 1, call.pool, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) memcpy(result + i * bytes, input + i * parts.from * unit, bytes);
    });
  }

  template <typename T>
  void pick(const Call& call) const {
    const Parts parts = divide_axes(call);
    const size_t inner = parts.inner, step = static_cast<size_t>(step_) * inner;
    if (parts.to * inner == 0) return;
    const T* input = call.inputs[0].as<T>() + parts.start * inner;
    T* result = call.outputs[0].as<T>();
    divide(parts.outer, kSmallestPart / (parts.to * inner) + 1, call.pool, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        const T* from = input + i * parts.from * inner;
        T* to = result + i * parts.to * inner;
        for (size_t j = 0; j < parts.to; ++j) {
          for (size_t k = 0; k < inner; ++k) to[j * inner + k] = from[j * step + k];
        }
      }
    });
  }

  int64_t axis_, step_;
  Expression start_, end_;
};

}  // namespace

std::unique_ptr<Op> make_slice(const Node& node) { return std::make_unique<Slice>(node); }

}  // namespace ferrule::executor
