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

// Whether it is a tuple or a list: other sequences, such as arrays without an axis, need not have a length.
bool is_list(const py::object& value);

// `count` integers in a tuple or list, or one that stands for all of them.
std::vector<size_t> require_sizes(const py::object& value, const char* name, size_t count, int64_t lowest);

// One of the words; returns the number beside it.
int require_word(const py::object& value, const char* name,
                 std::initializer_list<std::pair<const char*, int>> words);

// A usable instruction set: the `isa` argument, or the active one where it is None.
std::string require_isa(const py::object& isa);

// Names of the instruction sets that are compiled in and that this CPU runs, weakest first.
std::vector<std::string> usable_isas();

// Calls `op` with the pool, without the GIL, and raises what it answers.
template <typename Op>
void run(const char* name, const py::object& pool, Op op) {
  const SharedPool threads = require_pool(pool);
  ferrule_status status;
  {
    const py::gil_scoped_release release;
    status = op(threads.get());
  }
  require_ok(status, name);
}

// The same for an op that needs nothing but its arguments.
template <typename Args>
void run(const char* name, ferrule_status (*op)(const Args*, const char*, ferrule_pool*), const Args& args,
         const py::object& isa, const py::object& pool) {
  const std::string usable = require_isa(isa);
  run(name, pool, [&](ferrule_pool* threads) { return op(&args, usable.c_str(), threads); });
}

}  // namespace ferrule::bindings

#endif
