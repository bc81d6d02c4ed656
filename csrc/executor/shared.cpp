#include "executor/shared.h"

namespace ferrule::executor {

Shared::Shared(const Constants& constants, ferrule_pool* pool)
    : constants_(constants), pool_(pool), region_(constants.bytes()) {}

Constant Shared::find_array(const std::string& name, const std::function<Constant()>& fetch) {
  const auto found = read_.find(name);
  if (found != read_.end()) {
    if (auto memory = found->second.memory.lock()) return {found->second.spec, std::move(memory)};
  }
  Constant constant = fetch();
  read_[name] = {constant.spec, constant.memory};
  return constant;
}

Constant Shared::read(const std::string& name) {
  return find_array(name, [&] { return constants_.read(name, allocate); });
}

Constant Shared::borrow(const std::string& name) {
  const auto lend = [this](size_t bytes) { return lender_.lend(bytes); };
  return find_array(name, [&] { return constants_.read(name, lend); });
}

Constant Shared::map(const std::string& name) {
  return find_array(name, [&] { return constants_.map(name); });
}

size_t Shared::bytes() const {
  size_t total = 0;
  for (const auto& [key, made] : made_) total += made.object.expired() ? 0 : made.bytes;
  for (const auto& [name, read] : read_) total += read.memory.expired() ? 0 : read.spec.bytes();
  return total;
}

}  // namespace ferrule::executor
