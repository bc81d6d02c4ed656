#include "arguments.h"

#include <cmath>

#include "ferrule/dispatch.h"

namespace ferrule::bindings {

namespace {

std::string describe(const py::object& value) {
  if (!py::isinstance<py::array>(value)) return py::str(py::type::of(value).attr("__name__"));
  return std::string(py::str(value.attr("dtype"))) + " of shape " + std::string(py::str(value.attr("shape")));
}

std::string found(const char* code, const char* name, const std::string& what) {
  return std::string(code) + " " + name + ": found " + what + "; allowed: ";
}

std::string joined(const std::vector<std::string>& names) {
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
  return found(code, name, "'" + isa + "'" + reason_of(status)) + joined(usable_isas());
}

}  // namespace

py::array require_array(const py::object& value, const char* name, const char* dtype, int rank) {
  const std::string wanted = std::string("a numpy array of ") + dtype + ", rank " + std::to_string(rank);
  if (!py::isinstance<py::array>(value) || !py::dtype(dtype).equal(value.attr("dtype"))) {
    throw TypeRefused(found("FER-KER-001", name, describe(value)) + wanted);
  }
  const auto array = py::reinterpret_borrow<py::array>(value);
  if (array.ndim() != rank) throw ValueRefused(found("FER-KER-002", name, describe(value)) + wanted);
  const int layout = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((array.flags() & layout) != layout) {
    throw ValueRefused(found("FER-KER-003", name, describe(value) + " with strides or unaligned") +
                       "C-contiguous and aligned memory; numpy.ascontiguousarray makes it so");
  }
  return array;
}

py::array require_vector(const py::object& value, const char* name, const char* dtype, py::ssize_t length,
                         const char* reason) {
  const py::array array = require_array(value, name, dtype, 1);
  if (array.shape(0) != length) {
    throw ValueRefused(found("FER-KER-002", name, "length " + std::to_string(array.shape(0))) + "length " +
                       std::to_string(length) + ", " + reason);
  }
  return array;
}

float require_finite(const py::object& value, const char* name) {
  const double number = PyFloat_AsDouble(value.ptr());
  if (PyErr_Occurred()) {
    PyErr_Clear();
    throw TypeRefused(found("FER-KER-001", name, describe(value)) + "a real number");
  }
  const auto narrowed = static_cast<float>(number);
  if (!std::isfinite(narrowed)) {
    throw ValueRefused(found("FER-KER-004", name, std::to_string(number)) + "a finite float32");
  }
  return narrowed;
}

std::int32_t require_int8(const py::object& value, const char* name) {
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) {
    PyErr_Clear();
    throw TypeRefused(found("FER-KER-001", name, describe(value)) + "an integer from -128 to 127");
  }
  int overflow = 0;
  const long number = PyLong_AsLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0 || number < -128 || number > 127) {
    throw ValueRefused(found("FER-KER-004", name, py::str(index)) + "an integer from -128 to 127");
  }
  return static_cast<std::int32_t>(number);
}

std::string require_isa(const py::object& isa) {
  if (isa.is_none()) {
    const char* active = nullptr;
    const ferrule_isa_status status = ferrule_active_isa(&active);
    if (status == FERRULE_ISA_USABLE) return active;
    throw ValueRefused(
        refused_isa("FER-KER-006", "environment variable " FERRULE_ISA_VARIABLE, active, status));
  }
  if (!py::isinstance<py::str>(isa)) {
    throw TypeRefused(found("FER-KER-001", "isa", describe(isa)) + "None or one of " + joined(usable_isas()));
  }
  const auto name = isa.cast<std::string>();
  const ferrule_isa_status status = ferrule_check_isa(name.c_str());
  if (status != FERRULE_ISA_USABLE) throw ValueRefused(refused_isa("FER-KER-005", "isa", name, status));
  return name;
}

std::vector<std::string> usable_isas() {
  std::vector<std::string> names;
  for (size_t i = 0; i < ferrule_isa_count(); ++i) {
    const char* name = ferrule_isa_at(i);
    if (ferrule_check_isa(name) == FERRULE_ISA_USABLE) names.emplace_back(name);
  }
  return names;
}

}  // namespace ferrule::bindings
