#include <stdio.h>
#include <string.h>

#include <new>

#include "executor/program.h"
#include "ferrule/program.h"

using ferrule::executor::Array;
using ferrule::executor::Dtype;
using ferrule::executor::Error;
using ferrule::executor::kMostRank;
using ferrule::executor::Program;

static_assert(FERRULE_MOST_RANK == kMostRank);
static_assert(FERRULE_UINT8 == static_cast<int>(Dtype::kUint8));

struct ferrule_program {
  Program program;
};

namespace {

void tell(ferrule_error* error, const char* code, const char* text) {
  if (!error) return;
  snprintf(error->code, sizeof(error->code), "%s", code);
  snprintf(error->text, sizeof(error->text), "%s", text);
}

// Runs `body`, whose exceptions become an error. Returns whether there was none.
template <typename Body>
bool guard(ferrule_error* error, Body body) {
  try {
    body();
    return true;
  } catch (const Error& problem) {
    tell(error, problem.code, problem.what());
  } catch (const std::bad_alloc&) {
    tell(error, "FER-NAT-006", "There is not enough memory.");
  } catch (const std::exception& problem) {
    tell(error, "FER-NAT-003", problem.what());
  }
  return false;
}

Array read_array(const ferrule_array& given) {
  if (given.rank > kMostRank || given.dtype < FERRULE_FLOAT32 || given.dtype > FERRULE_UINT8)
    throw Error("FER-NAT-004", "An input has an unknown dtype, or more than 8 axes.");
  Array array = {{static_cast<Dtype>(given.dtype), {}}, given.data};
  for (size_t axis = 0; axis < given.rank; ++axis) array.spec.shape.push(given.dims[axis]);
  array.spec.shape.check();
  if (!given.data && array.spec.bytes()) throw Error("FER-NAT-004", "An input is NULL.");
  return array;
}

void write_array(const Array& array, ferrule_array* to) {
  *to = {};
  to->dtype = static_cast<ferrule_dtype>(array.spec.dtype);
  to->rank = array.shape().rank;
  for (size_t axis = 0; axis < to->rank; ++axis) to->dims[axis] = array.shape()[axis];
  to->data = array.data;
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

int ferrule_run(ferrule_program* program, size_t entry, const ferrule_array* inputs, size_t input_count,
                ferrule_array* outputs, size_t output_count, ferrule_error* error) {
  return guard(error, [&] {
    if (entry >= ferrule_entry_count(program)) throw Error("FER-NAT-004", "There is no such entry point.");
    if (output_count != ferrule_output_count(program, entry))
      throw Error("FER-NAT-004", "There must be room for as many outputs as the entry point has.");
    std::vector<Array> given;
    for (size_t i = 0; i < input_count; ++i) given.push_back(read_array(inputs[i]));
    program->program.run(entry, given, [&](const std::vector<Array>& results) {
      for (size_t i = 0; i < output_count; ++i) write_array(results[i], &outputs[i]);
    });
  });
}

int ferrule_reset(ferrule_program* program, ferrule_error* error) {
  return guard(error, [&] { program->program.reset(); });
}
