// Elements of a where the condition holds, of b elsewhere, with broadcasting. Inputs: condition (bool), a and
// b, of one dtype.
#include "executor/ops/loops.h"
#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

// Strides are constants in the common cases, so that those become vectors.
template <typename T>
void select(const uint8_t* condition, size_t c, const T* a, size_t p, const T* b, size_t q, T* result,
            size_t count) {
  FERRULE_INDEPENDENT
  for (size_t i = 0; i < count; ++i) {
    const T yes = a[i * p], no = b[i * q];
    result[i] = condition[i * c] ? yes : no;
  }
}

template <typename T>
void select_row(const uint8_t* condition, size_t c, const T* a, size_t p, const T* b, size_t q, T* result,
                size_t count) {
  if (c && p && q) return select(condition, 1, a, 1, b, 1, result, count);
  if (c && p) return select(condition, 1, a, 1, b, 0, result, count);
  if (c && q) return select(condition, 1, a, 0, b, 1, result, count);
  select(condition, c, a, p, b, q, result, count);
}

class Where : public TensorOp {
 public:
  explicit Where(const Node& node) : TensorOp(node) {}

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 3);
    require_dtype(inputs[0], Dtype::kBool);
    require_dtype(inputs[2], inputs[1].dtype);
    return {{inputs[1].dtype, broadcast(inputs[0].shape, broadcast(inputs[1].shape, inputs[2].shape))}};
  }

  bool may_overwrite(size_t index) const override { return index > 0; }

  void run(const Call& call) const override {
    with_size(call.outputs[0].spec.dtype, [&](auto zero) { run_as<decltype(zero)>(call); });
  }

 private:
  template <typename T>
  void run_as(const Call& call) const {
    const uint8_t* condition = call.inputs[0].as<uint8_t>();
    const T *a = call.inputs[1].as<T>(), *b = call.inputs[2].as<T>();
    T* result = call.outputs[0].as<T>();
    const Loops loops = make_loops(
        call.outputs[0].shape(), {&call.inputs[0].shape(), &call.inputs[1].shape(), &call.inputs[2].shape()});
    divide(call.outputs[0].shape().count(), kSmallestPart, call.pool, [&](size_t begin, size_t end) {
      for_rows(loops, begin, end, [&](const size_t* at, size_t to, size_t count) {
        select_row(condition + at[0], loops.inner_stride(0), a + at[1], loops.inner_stride(1), b + at[2],
                   loops.inner_stride(2), result + to, count);
      });
    });
  }
};

}  // namespace

std::unique_ptr<Op> make_where(const Node& node) { return std::make_unique<Where>(node); }

}  // namespace ferrule::executor
