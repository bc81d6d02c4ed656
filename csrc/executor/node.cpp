#include "executor/node.h"

#include <stdio.h>

#include "ferrule/dispatch.h"

namespace ferrule::executor {

namespace {

[[noreturn]] void refuse_expression() {
  throw Error("FER-NAT-003", "A length in the program is no expression of its dynamic axes.");
}

[[noreturn]] void refuse_length() {
  throw Error("FER-NAT-005", "A length in the program overflows, is negative or divides by zero.");
}

}  // namespace

Expression::Expression(const Json& json, const std::vector<std::string>& dims) {
  const std::vector<Json> single{json};
  size_t depth = 0;
  for (const Json& item : json.kind() == Json::Kind::kList ? json.list() : single) {
    if (item.kind() == Json::Kind::kInteger) {
      terms_.push_back({Kind::kNumber, item.integer()});
      if (++depth > kMostDepth) refuse_expression();
      continue;
    }
    if (item.kind() != Json::Kind::kText) refuse_expression();
    static const std::pair<const char*, Kind> kOperators[] = {
        {"+", Kind::kAdd},          {"-", Kind::kSubtract}, {"*", Kind::kMultiply},
        {"//", Kind::kFloorDivide}, {"min", Kind::kMin},    {"max", Kind::kMax}};
    Term term = {Kind::kNumber, 0};
    for (const auto& [name, kind] : kOperators) {
      if (item.text() == name) term.kind = kind;
    }
    if (term.kind != Kind::kNumber) {
      if (depth < 2) refuse_expression();
      --depth;
    } else {
      size_t dim = 0;
      while (dim < dims.size() && dims[dim] != item.text()) ++dim;
      if (dim == dims.size()) refuse_expression();
      term = {Kind::kDim, static_cast<int64_t>(dim)};
      if (++depth > kMostDepth) refuse_expression();
    }
    terms_.push_back(term);
  }
  if (depth != 1) refuse_expression();
}

int64_t Expression::evaluate(const Lengths& lengths) const {
  int64_t stack[kMostDepth];
  size_t depth = 0;
  for (const Term& term : terms_) {
    if (term.kind == Kind::kNumber || term.kind == Kind::kDim) {
      stack[depth++] = term.kind == Kind::kNumber ? term.value : lengths[static_cast<size_t>(term.value)];
      continue;
    }
    const int64_t b = stack[--depth];
    int64_t& a = stack[depth - 1];
    bool overflows = false;
    switch (term.kind) {
      case Kind::kAdd:
        overflows = __builtin_add_overflow(a, b, &a);
        break;
      case Kind::kSubtract:
        overflows = __builtin_sub_overflow(a, b, &a);
        break;
      case Kind::kMultiply:
        overflows = __builtin_mul_overflow(a, b, &a);
        break;
      case Kind::kFloorDivide:
        if (b <= 0) refuse_length();
        a = a / b - (a % b < 0);
        break;
      case Kind::kMin:
        a = a < b ? a : b;
        break;
      default:
        a = a > b ? a : b;
    }
    if (overflows) refuse_length();
  }
  return stack[0];
}

const Json& Node::attribute(const char* name) const {
  const Json* found = json_.find(name);
  if (!found) refuse("it lacks `" + std::string(name) + "`");
  return *found;
}

const std::string& Node::op() const {
  static const std::string kNone;
  const Json* found = json_.find("op");
  return found ? found->text() : kNone;
}

const std::string& Node::source() const {
  static const std::string kNone;
  const Json* found = json_.find("source");
  return found ? found->text() : kNone;
}

std::string Node::place() const { return source().empty() ? op() : op() + " (" + source() + ")"; }

void Node::use_kernel(const char* kernel) const {
  if (!ferrule_find_kernel(kernel, "scalar")) leave_out("kernel " + std::string(kernel), "FERRULE_KERNELS");
  kernels_->insert(kernel);
}

void Node::leave_out(const std::string& what, const char* option) const {
  throw Error("FER-NAT-013", place() + ": this build was made without " + what + "; name it in " + option +
                                 ", or leave that option empty.");
}

void Node::refuse(const std::string& what) const { throw Error("FER-NAT-003", place() + ": " + what + "."); }

void Node::misfit(const std::string& what) const { throw Error("FER-NAT-004", place() + ": " + what + "."); }

bool Node::has(const char* name) const {
  const Json* found = json_.find(name);
  return found && found->kind() != Json::Kind::kNull;
}

int64_t Node::integer(const char* name) const {
  const Json& value = attribute(name);
  if (value.kind() != Json::Kind::kInteger) refuse("`" + std::string(name) + "` is no whole number");
  return value.integer();
}

int64_t Node::integer(const char* name, int64_t otherwise) const {
  return has(name) ? integer(name) : otherwise;
}

double Node::number(const char* name) const {
  const Json& value = attribute(name);
  if (value.kind() != Json::Kind::kInteger && value.kind() != Json::Kind::kNumber)
    refuse("`" + std::string(name) + "` is no number");
  return value.number();
}

double Node::number(const char* name, double otherwise) const { return has(name) ? number(name) : otherwise; }

bool Node::flag(const char* name) const {
  if (!has(name)) return false;
  const Json& value = attribute(name);
  if (value.kind() != Json::Kind::kBool) refuse("`" + std::string(name) + "` is neither true nor false");
  return value.boolean();
}

const std::string& Node::text(const char* name) const {
  const Json& value = attribute(name);
  if (value.kind() != Json::Kind::kText) refuse("`" + std::string(name) + "` is no text");
  return value.text();
}

std::string Node::text(const char* name, const char* otherwise) const {
  return has(name) ? text(name) : otherwise;
}

std::vector<int64_t> Node::integers(const char* name) const {
  const Json& value = attribute(name);
  std::vector<int64_t> found;
  for (const Json& item : value.list()) {
    if (item.kind() != Json::Kind::kInteger)
      refuse("`" + std::string(name) + "` holds something else than numbers");
    found.push_back(item.integer());
  }
  if (value.kind() != Json::Kind::kList) refuse("`" + std::string(name) + "` is no list");
  return found;
}

std::string Node::key(std::initializer_list<const char*> names) const {
  std::string key;
  for (const char* name : names) {
    const Json* found = json_.find(name);
    key += '\n';
    if (!found) continue;
    key += std::to_string(static_cast<int>(found->kind())) + ' ' + found->text();
    char number[48];
    snprintf(number, sizeof(number), "%lld %a", static_cast<long long>(found->integer()), found->number());
    key += number;
  }
  return key;
}

Expression Node::expression(const char* name) const { return Expression(attribute(name), dims_); }

std::vector<Expression> Node::expressions(const char* name) const {
  const Json& value = attribute(name);
  if (value.kind() != Json::Kind::kList) refuse("`" + std::string(name) + "` is no list");
  std::vector<Expression> found;
  for (const Json& item : value.list()) found.emplace_back(item, dims_);
  return found;
}

Constant Node::constant(const char* name, Dtype dtype) const {
  Constant found = shared_.read(text(name));
  if (found.spec.dtype != dtype)
    refuse("`" + std::string(name) + "` is " + name_of(found.spec.dtype) + " where " + name_of(dtype) +
           " is needed");
  return found;
}

void Node::expect(const char* name, const Constant& found, Dtype dtype, size_t rank) const {
  if (found.spec.dtype != dtype || found.shape().rank != rank) {
    refuse("`" + std::string(name) + "` is " + name_of(found.spec.dtype) + " " + found.shape().text() +
           " where " + name_of(dtype) + " of " + std::to_string(rank) + " axes is needed");
  }
}

Constant Node::constant(const char* name, Dtype dtype, size_t rank) const {
  Constant found = shared_.read(text(name));
  expect(name, found, dtype, rank);
  return found;
}

Constant Node::map(const char* name, Dtype dtype, size_t rank) const {
  Constant found = shared_.map(text(name));
  expect(name, found, dtype, rank);
  return found;
}

Constant Node::borrow(const char* name, Dtype dtype, size_t rank) const {
  Constant found = shared_.borrow(text(name));
  expect(name, found, dtype, rank);
  return found;
}

}  // namespace ferrule::executor
