// Ops of two operands: two inputs, or an input and a number of the node.
#ifndef FERRULE_EXECUTOR_OPS_OPERANDS_H
#define FERRULE_EXECUTOR_OPS_OPERANDS_H

#include "executor/ops/loops.h"
#include "executor/ops/tensor.h"

namespace ferrule::executor {

template <typename T, typename R, typename Fn>
void apply_row(const T* a, size_t a_stride, const T* b, size_t b_stride, R* result, size_t count, Fn fn) {
  if (a_stride && b_stride) {
    FERRULE_INDEPENDENT
    for (size_t i = 0; i < count; ++i) result[i] = fn(a[i], b[i]);
  } else if (a_stride) {
    const T value = *b;
    FERRULE_INDEPENDENT
    for (size_t i = 0; i < count; ++i) result[i] = fn(a[i], value);
  } else if (b_stride) {
    const T value = *a;
    FERRULE_INDEPENDENT
    for (size_t i = 0; i < count; ++i) result[i] = fn(value, b[i]);
  } else {
    const R value = fn(*a, *b);
    for (size_t i = 0; i < count; ++i) result[i] = value;
  }
}

class OperandsOp : public TensorOp {
 protected:
  explicit OperandsOp(const Node& node)
      : TensorOp(node), has_value_(node.has("value")), is_reversed_(node.flag("reversed")) {
    if (has_value_) value_ = read_number(node, "value");
    if (is_reversed_ && !has_value_) node.refuse("`reversed` without a `value`");
  }

  // The result's shape; both inputs have one dtype, which the number fits.
  Shape infer_operands(const std::vector<Spec>& inputs) const {
    require_inputs(inputs, has_value_ ? 1 : 2);
    if (has_value_) {
      if (!value_.fits(inputs[0].dtype)) misfit("`value` is no " + std::string(name_of(inputs[0].dtype)));
      return inputs[0].shape;
    }
    require_dtype(inputs[1], inputs[0].dtype);
    return broadcast(inputs[0].shape, inputs[1].shape);
  }

  // result[i] = fn(a[i], b[i])
  template <typename T, typename R, typename Fn>
  void apply(const Call& call, Fn fn) const {
    const T number = value_.as<T>();
    const Shape scalar;
    const T* a = call.inputs[0].as<T>();
    const T* b = has_value_ ? &number : call.inputs[1].as<T>();
    const Shape* a_shape = &call.inputs[0].shape();
    const Shape* b_shape = has_value_ ? &scalar : &call.inputs[1].shape();
    if (is_reversed_) std::swap(a, b), std::swap(a_shape, b_shape);
    R* result = call.outputs[0].as<R>();
    const Loops loops = make_loops(call.outputs[0].shape(), {a_shape, b_shape});
    const size_t a_stride = loops.inner_stride(0), b_stride = loops.inner_stride(1);
    divide(call.outputs[0].shape().count(), kSmallestPart, call.pool, [&](size_t begin, size_t end) {
      for_rows(loops, begin, end, [&](const size_t* at, size_t to, size_t count) {
        apply_row(a + at[0], a_stride, b + at[1], b_stride, result + to, count, fn);
      });
    });
  }

  bool has_value_, is_reversed_;
  Number value_;
};

}  // namespace ferrule::executor

#endif
