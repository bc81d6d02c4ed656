// What the files of the C interface share: the program behind the pointer, and exceptions that become errors.
#ifndef FERRULE_EXECUTOR_C_API_H
#define FERRULE_EXECUTOR_C_API_H

#include <new>

#include "executor/program.h"
#include "ferrule/program.h"

struct ferrule_program {
  ferrule::executor::Program program;
};

namespace ferrule::executor {

void tell(ferrule_error* error, const char* code, const char* text);

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

void write_array(const Array& array, ferrule_array* to);

}  // namespace ferrule::executor

#endif
