#include "executor/shared.h"

namespace ferrule::executor {

Constant Shared::read(const std::string& name) {
  const auto found = read_.find(name);
  if (found != read_.end()) {
    if (auto memory = found->second.memory.lock()) return {found->second.spec, std::move(memory)};
  }
  Constant constant = constants_.read(name);
  read_[name] = {constant.spec, constant.memory};
  return constant;
}

size_t Shared::bytes() const {
  size_t total = 0;
  for (const auto& [key, made] : made_) total += made.object.expired() ? 0 : made.bytes;
  for (const auto& [name, read] : read_) total += read.memory.expired() ? 0 : read.spec.bytes();
  return total;
}

}  // namespace ferrule::executor
