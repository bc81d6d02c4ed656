// Arguments that are no tensors, and the call of an op with its checked arguments.
#ifndef FERRULE_BINDINGS_ARGUMENTS_H
#define FERRULE_BINDINGS_ARGUMENTS_H

#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "errors.h"
#include "ferrule/status.h"
#include "pool.h"

namespace ferrule::bindings {

namespace py = pybind11;

// Numbers. NaN, infinities and what lies outside of the bounds are refused; integers are taken by __index__.
float require_number(const py::object& value, const char* name);
float require_number_from(const py::object& value, const char* name, float lowest);
int64_t require_integer(const py::object& value, const char* name, int64_t lowest, int64_t highest);
bool require_bool(const py::object& value, const char* name);

// One of the words; returns the number beside it.
int require_word(const py::object& value, const char* name,
                 std::initializer_list<std::pair<const char*, int>> words);

// A usable instruction set: the `isa` argument, or the active one where it is None.
std::string require_isa(const py::object& isa);

// Names of the instruction sets that are compiled in and that this CPU runs, weakest first.
std::vector<std::string> usable_isas();

// Calls ferrule_<op>(&args, isa, pool) without the GIL, and raises what it answers.
template <typename Args>
void run(ferrule_status (*op)(const Args*, const char*, ferrule_pool*), const char* name, const Args& args,
         const py::object& isa, const py::object& pool) {
  const std::string usable = require_isa(isa);
  const SharedPool threads = require_pool(pool);
  ferrule_status status;
  {
    const py::gil_scoped_release release;
    status = op(&args, usable.c_str(), threads.get());
  }
  require_ok(status, name);
}

}  // namespace ferrule::bindings

#endif
