// The first input with slices along an axis replaced by those of `patch`: at `indices` (int64, of one axis,
// negative ones counted from the end; of equal ones the last counts), or from `start` on. Where nothing else
// reads the first input, as with a cache that is a state, the slices are written in place and nothing is
// copied. {axis, start}, in [x, patch] with a start, else [x, patch, indices].
#include <string.h>

#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

class Write : public TensorOp {
 public:
  explicit Write(const Node& node)
      : TensorOp(node), axis_(node.integer("axis")), has_start_(node.has("start")) {
    if (has_start_) start_ = node.expression("start");
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths& lengths) override {
    require_inputs(inputs, has_start_ ? 2 : 3);
    const Shape &x = inputs[0].shape, &patch = inputs[1].shape;
    require_dtype(inputs[1], inputs[0].dtype);
    const size_t axis = require_axis(axis_, x.rank);
    Shape wanted = x;
    if (has_start_) {
      const int64_t start = start_.evaluate(lengths);
      wanted[axis] = patch.rank == x.rank ? patch[axis] : 0;
      if (start < 0 || static_cast<size_t>(start) > x[axis] ||
          wanted[axis] > x[axis] - static_cast<size_t>(start))
        misfit("its patch " + patch.text() + " from " + std::to_string(start) + " leaves " + x.text());
    } else {
      require_dtype(inputs[2], Dtype::kInt64);
      if (inputs[2].shape.rank != 1) misfit("its indices " + inputs[2].shape.text() + " are not of one axis");
      wanted[axis] = inputs[2].shape[0];
    }
    if (patch != wanted) misfit("its patch is " + patch.text() + " where " + wanted.text() + " is needed");
    return {inputs[0]};
  }

  bool may_overwrite(size_t index) const override { return index == 0; }
  bool is_write() const override { return true; }

  void run(const Call& call) const override {
    const Shape &x = call.inputs[0].shape(), &patch = call.inputs[1].shape();
    const auto axis = static_cast<size_t>(axis_);
    const size_t size = x[axis], count = patch[axis];
    const int64_t* indices = has_start_ ? nullptr : call.inputs[2].as<int64_t>();
    if (indices) check_indices(indices, count, static_cast<int64_t>(size));
    auto* result = call.outputs[0].as<unsigned char>();
    const auto* from = call.inputs[1].as<unsigned char>();
    if (result != call.inputs[0].data && x.count())
      memcpy(result, call.inputs[0].data, call.outputs[0].spec.bytes());
    const size_t unit = count_axes(x, axis + 1, x.rank) * size_of(call.outputs[0].spec.dtype);
    if (patch.count() == 0) return;
    const size_t start = has_start_ ? static_cast<size_t>(start_.evaluate(*call.lengths)) : 0;
    const size_t bytes = count * unit;
    divide(count_axes(x, 0, axis), kSmallestPart * 4 / bytes + 1, call.pool, [&](size_t begin, size_t end) {
      for (size_t outer = begin; outer < end; ++outer) {
        unsigned char* to = result + outer * size * unit;
        if (!indices) memcpy(to + start * unit, from + outer * bytes, bytes);
        for (size_t i = 0; indices && i < count; ++i) {
          const size_t place = static_cast<size_t>(indices[i]) + (indices[i] < 0 ? size : 0);
          memcpy(to + place * unit, from + outer * bytes + i * unit, unit);
        }
      }
    });
  }

 private:
  void check_indices(const int64_t* indices, size_t count, int64_t size) const {
    for (size_t i = 0; i < count; ++i) {
      if (indices[i] < -size || indices[i] >= size)
        refuse_value("index " + std::to_string(indices[i]) + " is out of range for an axis of " +
                     std::to_string(size));
    }
  }

  int64_t axis_;
  bool has_start_;
  Expression start_;
};

}  // namespace

std::unique_ptr<Op> make_write(const Node& node) { return std::make_unique<Write>(node); }

}  // namespace ferrule::executor
