// Runs graphs of programs from their text, for the tests of the executor's ops: without a file, and each
// twice. Once as a program does, with values in the memory that the plan gives them; once with each input,
// result and scratch memory of each step in an allocation of its own, so that a sanitizer sees what is read
// beyond it. Both must agree.
#ifndef FERRULE_TESTS_EXECUTOR_H
#define FERRULE_TESTS_EXECUTOR_H

#include <stdlib.h>
#include <string.h>

#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "executor/graph.h"
#include "tests/rig.h"

namespace ferrule::tests {

template <typename T>
constexpr executor::Dtype dtype_for() {
  if (std::is_same_v<T, float>) return executor::Dtype::kFloat32;
  if (std::is_same_v<T, int64_t>) return executor::Dtype::kInt64;
  if (std::is_same_v<T, int32_t>) return executor::Dtype::kInt32;
  return std::is_same_v<T, int8_t> ? executor::Dtype::kInt8 : executor::Dtype::kUint8;
}

executor::Shape shape_of(const std::vector<size_t>& dims);

// An array and its memory, which is exactly as large.
struct Tensor {
  executor::Spec spec;
  std::shared_ptr<unsigned char> memory;

  explicit Tensor(const executor::Spec& what);
  // `values` in row-major order; bytes become bool where that is asked for.
  template <typename T>
  Tensor(const std::vector<size_t>& dims, const std::vector<T>& values,
         executor::Dtype dtype = dtype_for<T>())
      : Tensor(executor::Spec{dtype, shape_of(dims)}) {
    if (values.size() != spec.shape.count()) abort();
    if (!values.empty()) memcpy(memory.get(), values.data(), spec.bytes());
  }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(memory.get());
  }
  size_t count() const { return spec.shape.count(); }
  bool operator==(const Tensor& other) const;
};

// The arrays that a graph's text names.
class TestConstants : public executor::Constants {
 public:
  TestConstants() = default;
  void add(const std::string& name, const Tensor& tensor) { tensors_.insert_or_assign(name, tensor); }
  executor::Constant read(const std::string& name, const executor::Allocate& allocate) const override;
  size_t bytes() const override;

 private:
  std::map<std::string, Tensor> tensors_;
};

// The outputs of the first entry point, then the values that its states take. Throws executor::Error as the
// program would.
std::vector<Tensor> run_graph(const std::string& text, const std::vector<Tensor>& inputs,
                              const TestConstants& constants = {}, size_t threads = 1);

// The result of one node; `attributes` are the members of its object but for "in": `"op": "cast", "dtype":
// "bool"`. Shapes of the inputs are fixed.
Tensor run_node(const std::string& attributes, const std::vector<Tensor>& inputs,
                const TestConstants& constants = {}, size_t threads = 1);

// The text of the graph that run_node runs.
std::string graph_of(const std::string& attributes, const std::vector<Tensor>& inputs);

// The code of the Error that run_node throws; "" where it throws none.
std::string code_of(const std::string& attributes, const std::vector<Tensor>& inputs,
                    const TestConstants& constants = {});

// Says what is wrong where it does not hold.
bool check(bool holds, const std::string& what);

// float32 of the normal distribution, times `scale`.
Tensor draw(Random& random, const std::vector<size_t>& dims, float scale = 1);

// Whether run_node refuses the node by this code.
bool refuses(const char* code, const std::string& node, const std::vector<Tensor>& inputs,
             const TestConstants& constants = {});

}  // namespace ferrule::tests

#endif
