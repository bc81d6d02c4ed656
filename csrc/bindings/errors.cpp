#include "errors.h"

namespace ferrule::bindings {

namespace {

std::string say(const char* code, const std::string& name, const std::string& found,
                const std::string& allowed) {
  return std::string(code) + " " + name + ": found " + found + "; allowed: " + allowed;
}

}  // namespace

void refuse_type(const std::string& name, const std::string& found, const std::string& allowed) {
  throw TypeRefused(say("FER-KER-001", name, found, allowed));
}

void refuse_shape(const std::string& name, const std::string& found, const std::string& allowed) {
  throw ValueRefused(say("FER-KER-002", name, found, allowed));
}

void refuse_layout(const std::string& name, const std::string& found, const std::string& allowed) {
  throw ValueRefused(say("FER-KER-003", name, found, allowed));
}

void refuse_value(const std::string& name, const std::string& found, const std::string& allowed) {
  throw ValueRefused(say("FER-KER-004", name, found, allowed));
}

void refuse_size(const std::string& name, const std::string& found, const std::string& allowed) {
  throw ValueRefused(say("FER-KER-007", name, found, allowed));
}

void refuse_packed(const std::string& name, const std::string& found, const std::string& allowed) {
  throw ValueRefused(say("FER-KER-008", name, found, allowed));
}

void require_ok(ferrule_status status, const char* op) {
  if (status == FERRULE_OK) return;
  const std::string text =
      std::string(ferrule_status_code(status)) + " " + op + ": " + ferrule_status_text(status);
  if (status == FERRULE_BAD_TYPE) throw TypeRefused(text);
  throw ValueRefused(text);
}

}  // namespace ferrule::bindings
