// What nodes hold of a program's arrays, each once: several nodes, of one entry point or of several, may name
// the same arrays.
#ifndef FERRULE_EXECUTOR_SHARED_H
#define FERRULE_EXECUTOR_SHARED_H

#include <map>
#include <memory>
#include <string>

#include "executor/value.h"

namespace ferrule::executor {

// An array of the program's file, read into memory, which ends with the last copy: an op that packs it keeps
// none.
struct Constant {
  Spec spec;
  std::shared_ptr<unsigned char> memory;  // FERRULE_ALIGNMENT-aligned

  const Shape& shape() const { return spec.shape; }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(memory.get());
  }
};

class Constants {
 public:
  virtual ~Constants() = default;
  // Throws Error: FER-NAT-003 where there is none of the name, FER-NAT-001 where its bytes are not those
  // written.
  virtual Constant read(const std::string& name) const = 0;
};

// Finds again what still lives; keeps nothing alive itself.
class Shared {
 public:
  explicit Shared(const Constants& constants) : constants_(constants) {}

  // Throws as Constants::read does.
  Constant read(const std::string& name);

  // The object that was made for the key, which names its type and all that it depends on, else what `make`
  // returns. T has a member `bytes`, of the memory that it holds.
  template <typename T, typename Make>
  std::shared_ptr<const T> find(const std::string& key, const Make& make) {
    if (const auto known = made_[key].object.lock()) return std::static_pointer_cast<const T>(known);
    const auto made = std::make_shared<const T>(make());
    made_[key] = {made, made->bytes};
    return made;
  }

  // Of all arrays and objects that live.
  size_t bytes() const;

 private:
  struct Made {
    std::weak_ptr<const void> object;
    size_t bytes = 0;
  };
  struct Read {
    Spec spec;
    std::weak_ptr<unsigned char> memory;
  };
  const Constants& constants_;
  std::map<std::string, Made> made_;
  std::map<std::string, Read> read_;
};

}  // namespace ferrule::executor

#endif
