#include "executor/c_api.h"

#include <stdio.h>
#include <string.h>

#include <algorithm>

using ferrule::executor::Array;
using ferrule::executor::Dtype;
using ferrule::executor::Entry;
using ferrule::executor::Error;
using ferrule::executor::guard;
using ferrule::executor::InputPort;
using ferrule::executor::kMostRank;
using ferrule::executor::Lengths;
using ferrule::executor::Program;

static_assert(FERRULE_MOST_RANK == kMostRank);
static_assert(FERRULE_UINT8 == static_cast<int>(Dtype::kUint8));

namespace ferrule::executor {

void tell(ferrule_error* error, const char* code, const char* text) {
  if (!error) return;
  snprintf(error->code, sizeof(error->code), "%s", code);
  snprintf(error->text, sizeof(error->text), "%s", text);
}

void write_array(const Array& array, ferrule_array* to) {
  *to = {};
  to->dtype = static_cast<ferrule_dtype>(array.spec.dtype);
  to->rank = array.shape().rank;
  for (size_t axis = 0; axis < to->rank; ++axis) to->dims[axis] = array.shape()[axis];
  to->data = array.data;
}

}  // namespace ferrule::executor

namespace {

Array read_array(const ferrule_array& given) {
  if (given.rank > kMostRank || given.dtype < FERRULE_FLOAT32 || given.dtype > FERRULE_UINT8)
    throw Error("FER-NAT-004", "An input has an unknown dtype, or more than 8 axes.");
  Array array = {{static_cast<Dtype>(given.dtype), {}}, given.data};
  for (size_t axis = 0; axis < given.rank; ++axis) array.spec.shape.push(given.dims[axis]);
  array.spec.shape.check();
  return array;
}

std::vector<Array> read_arrays(const ferrule_array* given, size_t count) {
  std::vector<Array> arrays;
  for (size_t i = 0; i < count; ++i) arrays.push_back(read_array(given[i]));
  return arrays;
}

const Entry& require_entry(const ferrule_program* program, size_t entry) {
  const auto& entries = program->program.graph().entries;
  if (entry >= entries.size()) throw Error("FER-NAT-004", "There is no such entry point.");
  return entries[entry];
}

void require_room(const Entry& entry, size_t outputs) {
  if (outputs != entry.outputs.size())
    throw Error("FER-NAT-004", "There must be room for as many outputs as the entry point has.");
}

// All dynamic axes at their least or their greatest lengths.
Lengths lengths_at(const Entry& entry, bool greatest) {
  Lengths lengths;
  for (const auto& dim : entry.dims) lengths.push_back(greatest ? dim.max : dim.min);
  return lengths;
}

}  // namespace

ferrule_program* ferrule_open(const char* path, size_t threads, ferrule_error* error) {
  ferrule_program* program = nullptr;
  guard(error, [&] { program = new ferrule_program{Program(path, threads)}; });
  return program;
}

void ferrule_close(ferrule_program* program) { delete program; }

size_t ferrule_entry_count(const ferrule_program* program) { return program->program.graph().entries.size(); }

const char* ferrule_entry_name(const ferrule_program* program, size_t entry) {
  return program->program.graph().entries[entry].name.c_str();
}

size_t ferrule_find_entry(const ferrule_program* program, const char* name) {
  size_t entry = 0;
  while (entry < ferrule_entry_count(program) && strcmp(ferrule_entry_name(program, entry), name) != 0)
    ++entry;
  return entry;
}

size_t ferrule_input_count(const ferrule_program* program, size_t entry) {
  return program->program.graph().entries[entry].inputs.size();
}

size_t ferrule_output_count(const ferrule_program* program, size_t entry) {
  return program->program.graph().entries[entry].outputs.size();
}

const char* ferrule_input_name(const ferrule_program* program, size_t entry, size_t input) {
  return program->program.graph().entries[entry].inputs[input].name.c_str();
}

const char* ferrule_output_name(const ferrule_program* program, size_t entry, size_t output) {
  return program->program.graph().entries[entry].outputs[output].name.c_str();
}

int ferrule_describe_input(const ferrule_program* program, size_t entry, size_t input,
                           ferrule_description* description, ferrule_error* error) {
  return guard(error, [&] {
    const Entry& found = require_entry(program, entry);
    if (input >= found.inputs.size()) throw Error("FER-NAT-004", "There is no such input.");
    const InputPort& port = found.inputs[input];
    ferrule_description told = {};
    told.dtype = static_cast<ferrule_dtype>(port.dtype);
    told.rank = port.shape.size();
    const auto length = [&](size_t axis, bool greatest) {
      return static_cast<size_t>(
          std::max<int64_t>(0, port.shape[axis].evaluate(lengths_at(found, greatest))));
    };
    for (size_t axis = 0; axis < told.rank; ++axis) {
      const size_t dim = port.axes[axis];
      const char* name = dim == InputPort::kFixed ? nullptr : found.dims[dim].name.c_str();
      told.axes[axis] = {name, length(axis, false), length(axis, true)};
    }
    *description = told;
  });
}

int ferrule_infer(ferrule_program* program, size_t entry, const ferrule_array* inputs, size_t input_count,
                  ferrule_array* outputs, size_t output_count, ferrule_error* error) {
  return guard(error, [&] {
    require_room(require_entry(program, entry), output_count);
    const auto specs = program->program.infer(entry, read_arrays(inputs, input_count));
    for (size_t i = 0; i < output_count; ++i)
      ferrule::executor::write_array({specs[i], nullptr}, &outputs[i]);
  });
}

int ferrule_run(ferrule_program* program, size_t entry, const ferrule_array* inputs, size_t input_count,
                ferrule_array* outputs, size_t output_count, ferrule_error* error) {
  return guard(error, [&] {
    require_room(require_entry(program, entry), output_count);
    const std::vector<Array> given = read_arrays(inputs, input_count);
    for (const Array& array : given) {
      if (!array.data && array.spec.bytes()) throw Error("FER-NAT-004", "An input is NULL.");
    }
    program->program.run(entry, given, [&](const std::vector<Array>& results) {
      for (size_t i = 0; i < output_count; ++i) ferrule::executor::write_array(results[i], &outputs[i]);
    });
  });
}

int ferrule_reset(ferrule_program* program, ferrule_error* error) {
  return guard(error, [&] { program->program.reset(); });
}
