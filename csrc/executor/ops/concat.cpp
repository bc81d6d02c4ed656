// Inputs one after another along an axis; they have one dtype and agree in all other axes.
#include <string.h>

#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

class Concat : public TensorOp {
 public:
  explicit Concat(const Node& node) : TensorOp(node), axis_(node.integer("axis")) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    if (inputs.empty()) misfit("it has no inputs");
    Shape shape = inputs[0].shape;
    const size_t axis = require_axis(axis_, shape.rank);
    size_t& dim = shape[axis];
    for (size_t i = 1; i < inputs.size(); ++i) {
      require_dtype(inputs[i], inputs[0].dtype);
      Shape other = inputs[i].shape;
      const size_t length = other.rank == shape.rank ? other[axis] : 0;
      if (other.rank == shape.rank) other[axis] = dim;
      if (other != shape) misfit("shapes " + inputs[0].shape.text() + " and " + inputs[i].shape.text());
      if (__builtin_add_overflow(dim, length, &dim)) misfit("its result has too many elements");
    }
    return {{inputs[0].dtype, shape}};
  }

  void run(const Call& call) const override {
    const Shape& shape = call.outputs[0].shape();
    const auto axis = static_cast<size_t>(axis_);
    const size_t unit = count_axes(shape, axis + 1, shape.rank) * size_of(call.outputs[0].spec.dtype);
    const size_t bytes = shape[axis] * unit;
    if (bytes == 0) return;
    divide(count_axes(shape, 0, axis), kSmallestPart * 4 / bytes + 1, call.pool,
           [&](size_t begin, size_t end) {
             for (size_t i = begin; i < end; ++i) {
               auto* to = call.outputs[0].as<unsigned char>() + i * bytes;
               for (size_t input = 0; input < call.input_count; ++input) {
                 const size_t part = call.inputs[input].shape()[axis] * unit;
                 if (part) memcpy(to, call.inputs[input].as<unsigned char>() + i * part, part);
                 to += part;
               }
             }
           });
  }

 private:
  int64_t axis_;
};

}  // namespace

std::unique_ptr<Op> make_concat(const Node& node) { return std::make_unique<Concat>(node); }

}  // namespace ferrule::executor
