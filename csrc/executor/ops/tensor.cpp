#include "executor/ops/tensor.h"

#include <math.h>

namespace ferrule::executor {

TensorOp::TensorOp(const Node& node) : place_(node.place()) {}

TensorOp::~TensorOp() = default;

void TensorOp::misfit(const std::string& what) const {
  throw Error("FER-NAT-004", place_ + ": " + what + ".");
}

void TensorOp::refuse_value(const std::string& what) const {
  throw Error("FER-NAT-008", place_ + ": " + what + ".");
}

void TensorOp::require_inputs(const std::vector<Spec>& inputs, size_t least, size_t most) const {
  if (inputs.size() >= least && inputs.size() <= most) return;
  misfit("it takes " + std::to_string(most) + " inputs, not " + std::to_string(inputs.size()));
}

void TensorOp::require_dtype(const Spec& input, Dtype dtype) const {
  if (input.dtype == dtype) return;
  misfit("an input is " + std::string(name_of(input.dtype)) + " where " + name_of(dtype) + " is needed");
}

size_t TensorOp::require_axis(int64_t axis, size_t rank) const {
  if (axis < 0 || static_cast<uint64_t>(axis) >= rank)
    misfit("there is no axis " + std::to_string(axis) + " of " + std::to_string(rank));
  return static_cast<size_t>(axis);
}

Shape TensorOp::broadcast(const Shape& a, const Shape& b) const {
  const Shape& longer = a.rank < b.rank ? b : a;
  const Shape& shorter = a.rank < b.rank ? a : b;
  Shape shape = longer;
  for (size_t axis = 0; axis < shorter.rank; ++axis) {
    size_t& dim = shape[longer.rank - shorter.rank + axis];
    if (dim == 1)
      dim = shorter[axis];
    else if (shorter[axis] != 1 && shorter[axis] != dim)
      misfit("shapes " + a.text() + " and " + b.text() + " do not broadcast");
  }
  return shape;
}

std::vector<int64_t> TensorOp::evaluate(const std::vector<Expression>& shape, const Lengths& lengths,
                                        bool has_wildcards) const {
  if (shape.size() > kMostRank) misfit("`shape` has more than " + std::to_string(kMostRank) + " axes");
  std::vector<int64_t> dims;
  for (const Expression& expression : shape) {
    dims.push_back(expression.evaluate(lengths));
    if (dims.back() < (has_wildcards ? -1 : 0)) misfit("`shape` has a negative length");
  }
  return dims;
}

Dtype read_dtype(const Node& node, const char* name) {
  Dtype dtype;
  if (!find_dtype(node.text(name), &dtype)) node.refuse("there is no dtype " + node.text(name));
  return dtype;
}

size_t read_choice(const Node& node, const char* name, std::initializer_list<const char*> names) {
  const std::string& text = node.text(name);
  size_t index = 0;
  for (const char* known : names) {
    if (text == known) return index;
    ++index;
  }
  node.refuse("`" + std::string(name) + "` is " + text + ", which there is not");
}

bool Number::fits(Dtype dtype) const {
  switch (dtype) {
    case Dtype::kFloat32:
      return true;
    case Dtype::kInt64:
      return is_whole;
    case Dtype::kInt32:
      return is_whole && whole >= INT32_MIN && whole <= INT32_MAX;
    case Dtype::kBool:
      return is_whole && (whole == 0 || whole == 1);
    case Dtype::kInt8:
      return is_whole && whole >= INT8_MIN && whole <= INT8_MAX;
    case Dtype::kUint8:
      return is_whole && whole >= 0 && whole <= UINT8_MAX;
  }
  return false;
}

Number read_number(const Node& node, const char* name) {
  const Json& json = node.attribute(name);
  if (json.kind() == Json::Kind::kInteger) return {json.number(), json.integer(), true};
  if (json.kind() == Json::Kind::kBool) return {json.boolean() ? 1.0 : 0.0, json.boolean(), true};
  Number number;
  if (json.kind() == Json::Kind::kText) {  // JSON's numbers have none of these
    constexpr double kReals[] = {HUGE_VAL, -HUGE_VAL, NAN};
    number.real = kReals[read_choice(node, name, {"inf", "-inf", "nan"})];
  } else {
    number.real = node.number(name);
  }
  number.is_whole = number.real == floor(number.real) && fabs(number.real) < 0x1p63;
  if (number.is_whole) number.whole = static_cast<int64_t>(number.real);
  return number;
}

}  // namespace ferrule::executor
