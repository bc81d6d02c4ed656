// Slices of the first input along an axis, chosen by indices (int64, of any rank), whose axes take the place
// of that one. Negative indices count from the end.
#include <string.h>

#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

class Gather : public TensorOp {
 public:
  explicit Gather(const Node& node) : TensorOp(node), axis_(node.integer("axis")) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 2);
    require_dtype(inputs[1], Dtype::kInt64);
    const Shape &data = inputs[0].shape, &indices = inputs[1].shape;
    const size_t axis = require_axis(axis_, data.rank);
    Shape shape;
    for (size_t i = 0; i < axis; ++i) shape.push(data[i]);
    for (size_t i = 0; i < indices.rank; ++i) shape.push(indices[i]);
    for (size_t i = axis + 1; i < data.rank; ++i) shape.push(data[i]);
    return {{inputs[0].dtype, shape}};
  }

  void run(const Call& call) const override {
    const auto axis = static_cast<size_t>(axis_);
    const auto size = static_cast<int64_t>(call.inputs[0].shape()[axis]);
    const int64_t* indices = call.inputs[1].as<int64_t>();
    const size_t count = call.inputs[1].shape().count();
    for (size_t i = 0; i < count; ++i) {
      if (indices[i] < -size || indices[i] >= size)
        refuse_value("index " + std::to_string(indices[i]) + " is out of range for an axis of " +
                     std::to_string(size));
    }
    if (call.outputs[0].shape().count() == 0) return;
    with_size(call.outputs[0].spec.dtype, [&](auto zero) { copy<decltype(zero)>(call, axis, count); });
  }

 private:
  template <typename T>
  static void copy(const Call& call, size_t axis, size_t count) {
    const Shape& shape = call.inputs[0].shape();
    const size_t inner = count_axes(shape, axis + 1, shape.rank), size = shape[axis];
    const int64_t* indices = call.inputs[1].as<int64_t>();
    const T* data = call.inputs[0].as<T>();
    T* result = call.outputs[0].as<T>();
    const size_t slices = count_axes(shape, 0, axis) * count;
    divide(slices, kSmallestPart / inner + 1, call.pool, [&](size_t begin, size_t end) {
      for (size_t slice = begin; slice < end; ++slice) {
        const int64_t index = indices[slice % count];
        const size_t place = static_cast<size_t>(index) + (index < 0 ? size : 0);
        const T* from = data + (slice / count * size + place) * inner;
        if (inner == 1)
          result[slice] = *from;
        else
          memcpy(result + slice * inner, from, inner * sizeof(T));
      }
    });
  }

  int64_t axis_;
};

}  // namespace

std::unique_ptr<Op> make_gather(const Node& node) { return std::make_unique<Gather>(node); }

}  // namespace ferrule::executor
