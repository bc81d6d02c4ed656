#include "arguments.h"

#include <cmath>
#include <cstring>

#include "ferrule/dispatch.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const char* reason_of(ferrule_isa_status status) {
  switch (status) {
    case FERRULE_ISA_NOT_COMPILED:
      return " (known, but not compiled into this build)";
    case FERRULE_ISA_NOT_ON_CPU:
      return " (compiled, but this CPU lacks it)";
    default:
      return " (no instruction set of this name)";
  }
}

std::string refused_isa(const char* code, const char* name, const std::string& isa,
                        ferrule_isa_status status) {
  return std::string(code) + " " + name + ": found '" + isa + "'" + reason_of(status) +
         "; allowed: " + join(usable_isas());
}

}  // namespace

float require_number(const py::object& value, const char* name) {
  const double number = PyFloat_AsDouble(value.ptr());
  if (PyErr_Occurred()) {
    PyErr_Clear();
    refuse_type(name, describe(value), "a real number");
  }
  const auto narrowed = static_cast<float>(number);
  if (!std::isfinite(narrowed)) refuse_value(name, py::str(value), "a finite float32");
  return narrowed;
}

float require_number_from(const py::object& value, const char* name, float lowest) {
  const float number = require_number(value, name);
  if (number < lowest) refuse_value(name, py::str(value), "at least " + std::to_string(lowest));
  return number;
}

int64_t require_integer(const py::object& value, const char* name, int64_t lowest, int64_t highest) {
  const std::string allowed = "an integer from " + std::to_string(lowest) + " to " + std::to_string(highest);
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) {
    PyErr_Clear();
    refuse_type(name, describe(value), allowed);
  }
  int overflow = 0;
  const int64_t number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0 || number < lowest || number > highest) {
    refuse_value(name, overflow ? "an integer beyond 64 bits" : std::to_string(number), allowed);
  }
  return number;
}

bool require_bool(const py::object& value, const char* name) {
  if (!py::isinstance<py::bool_>(value)) refuse_type(name, describe(value), "True or False");
  return value.cast<bool>();
}

bool is_list(const py::object& value) {
  return py::isinstance<py::tuple>(value) || py::isinstance<py::list>(value);
}

std::vector<size_t> require_sizes(const py::object& value, const char* name, size_t count, int64_t lowest) {
  constexpr int64_t kHighest = INT32_MAX;
  if (!is_list(value)) {
    return std::vector<size_t>(count, static_cast<size_t>(require_integer(value, name, lowest, kHighest)));
  }
  const auto items = py::reinterpret_borrow<py::sequence>(value);
  if (items.size() != count) {
    refuse_shape(name, std::to_string(items.size()) + " numbers", std::to_string(count) + " numbers, or one");
  }
  std::vector<size_t> sizes;
  for (size_t i = 0; i < count; ++i) {
    sizes.push_back(static_cast<size_t>(require_integer(py::object(items[i]), name, lowest, kHighest)));
  }
  return sizes;
}

int require_word(const py::object& value, const char* name,
                 std::initializer_list<std::pair<const char*, int>> words) {
  std::string allowed;
  for (const auto& word : words) allowed += (allowed.empty() ? "" : ", ") + std::string(word.first);
  if (!py::isinstance<py::str>(value)) refuse_type(name, describe(value), allowed);
  const auto found = value.cast<std::string>();
  for (const auto& word : words) {
    if (found == word.first) return word.second;
  }
  refuse_value(name, "'" + found + "'", allowed);
}

std::string require_isa(const py::object& isa) {
  if (isa.is_none()) {
    const char* active = nullptr;
    const ferrule_isa_status status = ferrule_active_isa(&active);
    if (status == FERRULE_ISA_USABLE) return active;
    throw ValueRefused(
        refused_isa("FER-KER-006", "environment variable " FERRULE_ISA_VARIABLE, active, status));
  }
  if (!py::isinstance<py::str>(isa))
    refuse_type("isa", describe(isa), "None or one of " + join(usable_isas()));
  const auto name = isa.cast<std::string>();
  const ferrule_isa_status status = ferrule_check_isa(name.c_str());
  if (status != FERRULE_ISA_USABLE) throw ValueRefused(refused_isa("FER-KER-005", "isa", name, status));
  return name;
}

std::vector<std::string> usable_isas() {
  std::vector<std::string> names;
  const char* active = nullptr;
  ferrule_active_isa(&active);
  for (size_t i = 0; i < ferrule_isa_count(); ++i) {
    const char* name = ferrule_isa_at(i);
    const bool named = ferrule_isa_by_default(name) || strcmp(name, active) == 0;
    if (named && ferrule_check_isa(name) == FERRULE_ISA_USABLE) names.emplace_back(name);
  }
  return names;
}

}  // namespace ferrule::bindings
