#ifndef FERRULE_BINDINGS_ARGUMENTS_H
#define FERRULE_BINDINGS_ARGUMENTS_H

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace ferrule::bindings {

namespace py = pybind11;

// Python sees these as KernelTypeError (a TypeError) and KernelValueError (a ValueError). Every
// message starts with a stable code and says what was found and what is allowed:
//   FER-KER-001 type or dtype    FER-KER-002 rank or length    FER-KER-003 memory layout
//   FER-KER-004 value out of range    FER-KER-005 isa argument    FER-KER-006 FERRULE_ISA
struct TypeRefused : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct ValueRefused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// An argument as a numpy array of one dtype and rank, C-contiguous and aligned.
py::array require_array(const py::object& value, const char* name, const char* dtype, int rank);

// The same, with a fixed length; `reason` says where the length comes from.
py::array require_vector(const py::object& value, const char* name, const char* dtype, py::ssize_t length,
                         const char* reason);

float require_finite(const py::object& value, const char* name);

std::int32_t require_int8(const py::object& value, const char* name);

// A usable instruction set: the `isa` argument, or the active one where it is None.
std::string require_isa(const py::object& isa);

// Names of the instruction sets that are compiled in and that this CPU runs, weakest first.
std::vector<std::string> usable_isas();

}  // namespace ferrule::bindings

#endif
