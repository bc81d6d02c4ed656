// result[.., i, ..] = x[.., indices[.., i, ..], ..] along an axis, of an element for each index (int64, of as
// many axes as x, of which none but that one may be longer than in x). Negative indices count from the end.
#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

class GatherElements : public TensorOp {
 public:
  explicit GatherElements(const Node& node) : TensorOp(node), axis_(node.integer("axis")) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 2);
    require_dtype(inputs[1], Dtype::kInt64);
    const Shape &data = inputs[0].shape, &indices = inputs[1].shape;
    const size_t axis = require_axis(axis_, data.rank);
    bool fits = indices.rank == data.rank;
    for (size_t i = 0; fits && i < data.rank; ++i) fits = i == axis || indices[i] <= data[i];
    if (!fits) misfit("its indices " + indices.text() + " do not fit " + data.text());
    return {{inputs[0].dtype, indices}};
  }

  void run(const Call& call) const override {
    const auto size = static_cast<int64_t>(call.inputs[0].shape()[static_cast<size_t>(axis_)]);
    const int64_t* indices = call.inputs[1].as<int64_t>();
    const size_t count = call.inputs[1].shape().count();
    for (size_t i = 0; i < count; ++i) {
      if (indices[i] < -size || indices[i] >= size)
        refuse_value("index " + std::to_string(indices[i]) + " is out of range for an axis of " +
                     std::to_string(size));
    }
    if (count == 0) return;
    with_size(call.outputs[0].spec.dtype, [&](auto zero) { copy<decltype(zero)>(call, count); });
  }

 private:
  template <typename T>
  void copy(const Call& call, size_t count) const {
    const Shape &shape = call.inputs[0].shape(), &chosen = call.inputs[1].shape();
    const auto axis = static_cast<size_t>(axis_);
    size_t strides[kMostRank];
    for (size_t i = shape.rank, stride = 1; i-- > 0; stride *= shape[i]) strides[i] = stride;
    const int64_t* indices = call.inputs[1].as<int64_t>();
    const T* data = call.inputs[0].as<T>();
    T* result = call.outputs[0].as<T>();
    divide(count, kSmallestPart, call.pool, [&, axis](size_t begin, size_t end) {
      for (size_t element = begin; element < end; ++element) {
        size_t from = 0, rest = element;
        for (size_t i = chosen.rank; i-- > 0; rest /= chosen[i]) {
          if (i != axis) from += rest % chosen[i] * strides[i];
        }
        const int64_t index = indices[element];
        from += (static_cast<size_t>(index) + (index < 0 ? shape[axis] : 0)) * strides[axis];
        result[element] = data[from];
      }
    });
  }

  int64_t axis_;
};

}  // namespace

std::unique_ptr<Op> make_gather_elements(const Node& node) { return std::make_unique<GatherElements>(node); }

}  // namespace ferrule::executor
