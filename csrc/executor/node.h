// A node as the program's text has it: attributes, read with their types checked, and constants.
#ifndef FERRULE_EXECUTOR_NODE_H
#define FERRULE_EXECUTOR_NODE_H

#include <initializer_list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "executor/json.h"
#include "executor/op.h"
#include "executor/shared.h"

namespace ferrule::executor {

// A whole number that may depend on the lengths of dynamic axes: [number | "dim" | "+" | "-" | "*" | "//"
// ...] in postfix order, dims by name.
class Expression {
 public:
  Expression() = default;
  explicit Expression(int64_t constant) : terms_{{Kind::kNumber, constant}} {}
  // Throws Error FER-NAT-003.
  Expression(const Json& json, const std::vector<std::string>& dims);
  // Allocates nothing, so that ops may ask while they run.
  int64_t evaluate(const Lengths& lengths) const;  // throws Error FER-NAT-005 on overflow or division by zero

 private:
  static constexpr size_t kMostDepth = 64;  // values that wait for their operator
  enum class Kind : uint8_t { kNumber, kDim, kAdd, kSubtract, kMultiply, kFloorDivide, kMin, kMax };
  struct Term {
    Kind kind;
    int64_t value;
  };
  std::vector<Term> terms_;
};

class Node {
 public:
  Node(const Json& json, const std::vector<std::string>& dims, Shared& shared, std::set<std::string>* kernels)
      : json_(json), dims_(dims), shared_(shared), kernels_(kernels) {}

  const std::string& op() const;      // "linear"
  const std::string& source() const;  // "model.py:12", or ""
  std::string place() const;          // "linear (model.py:12)", for messages

  bool has(const char* name) const;
  const Json& attribute(const char* name) const;  // throws Error FER-NAT-003 where it is absent
  // All throw Error FER-NAT-003 where the attribute is absent or of another type; with `otherwise`, absent is
  // fine.
  int64_t integer(const char* name) const;
  int64_t integer(const char* name, int64_t otherwise) const;
  double number(const char* name) const;
  double number(const char* name, double otherwise) const;
  bool flag(const char* name) const;  // absent: false
  const std::string& text(const char* name) const;
  std::string text(const char* name, const char* otherwise) const;
  std::vector<int64_t> integers(const char* name) const;
  Expression expression(const char* name) const;
  std::vector<Expression> expressions(const char* name) const;
  // The array that the attribute names; `dtype` and `rank` are checked.
  Constant constant(const char* name, Dtype dtype, size_t rank) const;
  Constant constant(const char* name, Dtype dtype) const;  // of any rank
  Constant borrow(const char* name, Dtype dtype,
                  size_t rank) const;  // to be packed and let go: Shared::borrow

  Constant map(const char* name, Dtype dtype, size_t rank) const;  // Shared::map

  // As Shared has them.
  std::shared_ptr<unsigned char> reserve(size_t bytes) const { return shared_.reserve(bytes); }
  ferrule_pool* pool() const { return shared_.pool(); }

  // What `make` returns, or what it returned for another node of whose attributes those of these names are
  // the same; `kind` names its type, and all else that it depends on.
  template <typename T, typename Make>
  std::shared_ptr<const T> share(const std::string& kind, std::initializer_list<const char*> names,
                                 const Make& make) const {
    return shared_.find<T>(kind + key(names), make);
  }

  // To be called for each kernel (an op of kernels/table.inc) that the op may run. Throws Error FER-NAT-013
  // where this build was made without it.
  void use_kernel(const char* kernel) const;
  // Throws Error FER-NAT-013 that names the op, its source and `what`, which an option of the build left out.
  [[noreturn]] void leave_out(const std::string& what, const char* option) const;

  // Throws Error FER-NAT-003 that names the op, its source and `what`.
  [[noreturn]] void refuse(const std::string& what) const;
  // Throws Error FER-NAT-004, the same for inputs that do not fit.
  [[noreturn]] void misfit(const std::string& what) const;

 private:
  std::string key(std::initializer_list<const char*> names) const;
  void expect(const char* name, const Constant& found, Dtype dtype, size_t rank) const;

  const Json& json_;
  const std::vector<std::string>& dims_;
  Shared& shared_;
  std::set<std::string>* kernels_;
};

}  // namespace ferrule::executor

#endif
