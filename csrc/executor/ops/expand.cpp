// The input broadcast to a shape, in which -1 keeps the input's length.
#include <string.h>

#include <algorithm>

#include "executor/ops/loops.h"
#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

class Expand : public TensorOp {
 public:
  explicit Expand(const Node& node) : TensorOp(node), shape_(node.expressions("shape")) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths& lengths) override {
    require_inputs(inputs, 1);
    const Shape& input = inputs[0].shape;
    const std::vector<int64_t> dims = evaluate(shape_, lengths, true);
    if (dims.size() < input.rank) misfit("`shape` has fewer axes than " + input.text());
    const size_t added = dims.size() - input.rank;
    Shape shape;
    for (const int64_t dim : dims) {
      const size_t axis = shape.rank;
      if (axis < added && dim < 0) misfit("`shape` keeps an axis that the input lacks");
      const size_t length = axis < added ? 1 : input[axis - added];
      shape.push(dim < 0 ? length : static_cast<size_t>(dim));
      if (length != 1 && length != shape[axis]) misfit("shape " + input.text() + " does not expand so");
    }
    return {{inputs[0].dtype, shape}};
  }

  void run(const Call& call) const override {
    with_size(call.outputs[0].spec.dtype, [&](auto zero) { run_as<decltype(zero)>(call); });
  }

 private:
  template <typename T>
  static void run_as(const Call& call) {
    const T* input = call.inputs[0].as<T>();
    T* result = call.outputs[0].as<T>();
    const Loops loops = make_loops(call.outputs[0].shape(), {&call.inputs[0].shape()});
    const bool copies = loops.inner_stride(0) != 0;
    divide(call.outputs[0].shape().count(), kSmallestPart, call.pool, [&](size_t begin, size_t end) {
      for_rows(loops, begin, end, [&](const size_t* at, size_t to, size_t count) {
        if (copies)
          memcpy(result + to, input + at[0], count * sizeof(T));
        else
          std::fill_n(result + to, count, input[at[0]]);
      });
    });
  }

  std::vector<Expression> shape_;
};

}  // namespace

std::unique_ptr<Op> make_expand(const Node& node) { return std::make_unique<Expand>(node); }

}  // namespace ferrule::executor
