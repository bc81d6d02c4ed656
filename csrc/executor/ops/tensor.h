// What the ops on tensors share: checks, attributes that several have, and the division of work over threads.
#ifndef FERRULE_EXECUTOR_OPS_TENSOR_H
#define FERRULE_EXECUTOR_OPS_TENSOR_H

#include <initializer_list>
#include <string>
#include <type_traits>
#include <vector>

#include "executor/node.h"
#include "ops/run.h"

namespace ferrule::executor {

// Loops over elements whose iterations do not depend on each other; the result may be an input's own memory,
// for which compilers would otherwise leave the vectors aside.
#if defined(__clang__)
#define FERRULE_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define FERRULE_INDEPENDENT _Pragma("GCC ivdep")
#else
#define FERRULE_INDEPENDENT
#endif

constexpr size_t kSmallestPart = 1 << 14;  // elements, below which a second thread costs more than it saves

class TensorOp : public Op {
 protected:
  explicit TensorOp(const Node& node);
  ~TensorOp() override;

  [[noreturn]] void misfit(const std::string& what) const;
  // For values that are out of range while it runs.
  [[noreturn]] void refuse_value(const std::string& what) const;
  void require_inputs(const std::vector<Spec>& inputs, size_t count) const {
    require_inputs(inputs, count, count);
  }
  void require_inputs(const std::vector<Spec>& inputs, size_t least, size_t most) const;
  void require_dtype(const Spec& input, Dtype dtype) const;
  // The axis of a shape of `rank`.
  size_t require_axis(int64_t axis, size_t rank) const;
  Shape broadcast(const Shape& a, const Shape& b) const;
  // Lengths of a shape, of which `wildcard` may be one that is returned as -1.
  std::vector<int64_t> evaluate(const std::vector<Expression>& shape, const Lengths& lengths,
                                bool has_wildcards) const;

 private:
  std::string place_;
};

// Elements of axes [begin, end).
inline size_t count_axes(const Shape& shape, size_t begin, size_t end) {
  size_t count = 1;
  for (size_t axis = begin; axis < end; ++axis) count *= shape[axis];
  return count;
}

Dtype read_dtype(const Node& node, const char* name);

// The place of the attribute's text among `names`; the node is refused where it is none of them.
size_t read_choice(const Node& node, const char* name, std::initializer_list<const char*> names);

// An attribute that is a number of whatever dtype the inputs turn out to have.
struct Number {
  double real = 0;
  int64_t whole = 0;  // the same where is_whole
  bool is_whole = true;

  bool fits(Dtype dtype) const;
  template <typename T>
  T as() const {
    if constexpr (std::is_floating_point_v<T>) return static_cast<T>(real);
    return static_cast<T>(whole);
  }
};
// true and false are 1 and 0; what JSON's numbers lack is a text: "inf", "-inf", "nan".
Number read_number(const Node& node, const char* name);

// Calls body(begin, end) or body(begin, end, worker) for parts of [0, units), in several threads where there
// are `smallest` units for each.
template <typename Body>
void divide(size_t units, size_t smallest, ferrule_pool* pool, const Body& body) {
  struct Context {
    const Body* body;
    size_t units, tasks;
  } context{&body, units, ops::choose_tasks(units, smallest ? smallest : 1, pool)};
  const auto task = [](void* opaque, size_t index, size_t worker) {
    const auto& c = *static_cast<Context*>(opaque);
    const size_t begin = ops::part_begin(c.units, c.tasks, index);
    const size_t end = ops::part_begin(c.units, c.tasks, index + 1);
    if constexpr (std::is_invocable_v<const Body&, size_t, size_t, size_t>)
      (*c.body)(begin, end, worker);
    else
      (*c.body)(begin, end), static_cast<void>(worker);
  };
  if (context.tasks == 1) task(&context, 0, 0);
  if (context.tasks > 1) ferrule_pool_run(pool, context.tasks, task, &context);
}

// Calls body(T()) where T is the type that a dtype's elements are read as; bool as uint8, since a program may
// hold other bytes than 0 and 1.
template <typename Body>
void with_type(Dtype dtype, const Body& body) {
  switch (dtype) {
    case Dtype::kFloat32:
      return body(float());
    case Dtype::kInt64:
      return body(int64_t());
    case Dtype::kInt32:
      return body(int32_t());
    case Dtype::kInt8:
      return body(int8_t());
    case Dtype::kBool:
    case Dtype::kUint8:
      return body(uint8_t());
  }
}

// Calls body(T()) with a type of as many bytes as the dtype has, for ops that only move elements.
template <typename Body>
void with_size(Dtype dtype, const Body& body) {
  switch (size_of(dtype)) {
    case 1:
      return body(uint8_t());
    case 4:
      return body(uint32_t());
    default:
      return body(uint64_t());
  }
}

}  // namespace ferrule::executor

#endif
