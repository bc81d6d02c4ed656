// Slices of the first input, chosen by indices (int64), whose axes take the place of the one that `axis`
// names. Several indices are broadcast to each other and choose along as many axes, from that one on.
// Negative indices count from the end. {axis}, in [x, indices, ...].
#include <string.h>

#include <algorithm>

#include "executor/ops/loops.h"
#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

class Gather : public TensorOp {
 public:
  explicit Gather(const Node& node) : TensorOp(node), axis_(node.integer("axis")) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 2, kMostRank + 1);
    for (size_t i = 1; i < inputs.size(); ++i) require_dtype(inputs[i], Dtype::kInt64);
    const Shape& data = inputs[0].shape;
    const size_t axis = require_axis(axis_, data.rank), end = axis + inputs.size() - 1;
    if (end > data.rank) misfit("it has more indices than " + data.text() + " has axes from `axis` on");
    const Shape indices = index_shape(inputs);
    Shape shape;
    for (size_t i = 0; i < axis; ++i) shape.push(data[i]);
    for (size_t i = 0; i < indices.rank; ++i) shape.push(indices[i]);
    for (size_t i = end; i < data.rank; ++i) shape.push(data[i]);
    return {{inputs[0].dtype, shape}};
  }

  size_t scratch(const std::vector<Spec>& inputs, size_t) const override {
    return index_shape(inputs).count() * sizeof(size_t);
  }

  void run(const Call& call) const override {
    const Shape &data = call.inputs[0].shape(), &result = call.outputs[0].shape();
    const size_t axis = static_cast<size_t>(axis_), chosen = call.input_count - 1;
    const size_t last = result.rank + chosen - data.rank;  // axes of what the indices are broadcast to
    Shape indices;
    for (size_t i = 0; i < last; ++i) indices.push(result[axis + i]);
    auto* places = static_cast<size_t*>(call.scratch);
    std::fill_n(places, indices.count(), size_t{0});
    for (size_t i = 0; i < chosen; ++i) add_index(call.inputs[1 + i], indices, data[axis + i], places);
    if (result.count() == 0) return;
    with_size(call.outputs[0].spec.dtype,
              [&](auto zero) { copy<decltype(zero)>(call, places, indices.count()); });
  }

 private:
  // What the indices are broadcast to.
  Shape index_shape(const std::vector<Spec>& inputs) const {
    Shape shape = inputs[1].shape;
    for (size_t i = 2; i < inputs.size(); ++i) shape = broadcast(shape, inputs[i].shape);
    shape.check();
    return shape;
  }

  // places = places * size + index
  void add_index(const Array& index, const Shape& shape, size_t size, size_t* places) const {
    if (shape.count() == 0) return;
    const Loops loops = make_loops(shape, {&index.shape()});
    const size_t stride = loops.inner_stride(0);
    const auto* values = index.as<int64_t>();
    const auto length = static_cast<int64_t>(size);
    for_rows(loops, 0, shape.count(), [&](const size_t* at, size_t to, size_t count) {
      for (size_t i = 0; i < count; ++i) {
        const int64_t value = values[at[0] + i * stride];
        if (value < -length || value >= length)
          refuse_value("index " + std::to_string(value) + " is out of range for an axis of " +
                       std::to_string(size));
        places[to + i] = places[to + i] * size + static_cast<size_t>(value) + (value < 0 ? size : 0);
      }
    });
  }

  template <typename T>
  void copy(const Call& call, const size_t* places, size_t count) const {
    const Shape& shape = call.inputs[0].shape();
    const size_t axis = static_cast<size_t>(axis_), end = axis + call.input_count - 1;
    const size_t inner = count_axes(shape, end, shape.rank), size = count_axes(shape, axis, end);
    const T* data = call.inputs[0].as<T>();
    T* result = call.outputs[0].as<T>();
    const size_t slices = count_axes(shape, 0, axis) * count;
    divide(slices, kSmallestPart / inner + 1, call.pool, [&](size_t begin, size_t end_slice) {
      for (size_t slice = begin; slice < end_slice; ++slice) {
        const T* from = data + (slice / count * size + places[slice % count]) * inner;
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
