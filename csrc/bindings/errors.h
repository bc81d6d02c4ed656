#ifndef FERRULE_BINDINGS_ERRORS_H
#define FERRULE_BINDINGS_ERRORS_H

#include <stdexcept>
#include <string>

#include "ferrule/status.h"

namespace ferrule::bindings {

// Python sees these as KernelTypeError (a TypeError) and KernelValueError (a ValueError). Every message
// starts with a stable code of docs/errors.md and says what was found, what is allowed and, where it is not
// plain, what to do.
struct TypeRefused : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct ValueRefused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void refuse_type(const std::string& name, const std::string& found, const std::string& allowed);
[[noreturn]] void refuse_shape(const std::string& name, const std::string& found, const std::string& allowed);
[[noreturn]] void refuse_layout(const std::string& name, const std::string& found,
                                const std::string& allowed);
[[noreturn]] void refuse_value(const std::string& name, const std::string& found, const std::string& allowed);
[[noreturn]] void refuse_size(const std::string& name, const std::string& found, const std::string& allowed);
[[noreturn]] void refuse_packed(const std::string& name, const std::string& found,
                                const std::string& allowed);

// Raises what the C interface answered, unless it is FERRULE_OK. The checks of the binding are at least as
// strict as those of the ops, so that this says less than they do.
void require_ok(ferrule_status status, const char* op);

}  // namespace ferrule::bindings

#endif
