// A node as the program's text has it: attributes, read with their types checked, and constants.
#ifndef FERRULE_EXECUTOR_NODE_H
#define FERRULE_EXECUTOR_NODE_H

#include <memory>
#include <string>
#include <vector>

#include "executor/json.h"
#include "executor/op.h"

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

// An array of the program's file, read into memory, which ends with the last copy: an op that packs it keeps
// none.
struct Constant {
  Spec spec;
  std::shared_ptr<unsigned char> memory;  // FERRULE_ALIGNMENT-aligned

  const Shape& shape() const { return spec.shape; }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(memory.get());
  }
};

class Constants {
 public:
  virtual ~Constants() = default;
  // Throws Error: FER-NAT-003 where there is none of the name, FER-NAT-001 where its bytes are not those
  // written.
  virtual Constant read(const std::string& name) const = 0;
};

class Node {
 public:
  Node(const Json& json, const std::vector<std::string>& dims, const Constants& constants)
      : json_(json), dims_(dims), constants_(constants) {}

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

  // Throws Error FER-NAT-003 that names the op, its source and `what`.
  [[noreturn]] void refuse(const std::string& what) const;
  // Throws Error FER-NAT-004, the same for inputs that do not fit.
  [[noreturn]] void misfit(const std::string& what) const;

 private:
  const Json& json_;
  const std::vector<std::string>& dims_;
  const Constants& constants_;
};

}  // namespace ferrule::executor

#endif
