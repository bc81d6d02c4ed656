// What nodes hold of a program's arrays, each once: several nodes, of one entry point or of several, may name
// the same arrays.
#ifndef FERRULE_EXECUTOR_SHARED_H
#define FERRULE_EXECUTOR_SHARED_H

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "executor/memory.h"
#include "executor/value.h"
#include "ferrule/threads.h"

namespace ferrule::executor {

// An array of the program's file, read into memory, which ends with the last copy: an op that packs it keeps
// none.
struct Constant {
  Spec spec;
  std::shared_ptr<unsigned char> memory;  // FERRULE_ALIGNMENT-aligned; as the dtype is, where it was mapped

  const Shape& shape() const { return spec.shape; }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(memory.get());
  }
};

// FERRULE_ALIGNMENT-aligned memory. Throws Error FER-NAT-006.
using Allocate = std::function<std::shared_ptr<unsigned char>(size_t bytes)>;

class Constants {
 public:
  virtual ~Constants() = default;
  // Throws Error: FER-NAT-003 where there is none of the name, FER-NAT-001 where its bytes are not those
  // written.
  virtual Constant read(const std::string& name, const Allocate& allocate) const = 0;
  // The same, where it lies in the file if that is worth it: for arrays that are read here and there, and
  // hold values that may be anything, for whoever writes to the file meanwhile changes them.
  virtual Constant map(const std::string& name) const { return read(name, allocate); }
  virtual size_t bytes() const = 0;  // of all arrays
};

// Finds again what still lives; keeps nothing alive itself.
class Shared {
 public:
  // pool: threads that help to pack, or NULL.
  Shared(const Constants& constants, ferrule_pool* pool);

  // Throw as Constants::read does. What is borrowed shall be packed and let go: its memory is used again.
  Constant read(const std::string& name);
  Constant borrow(const std::string& name);
  Constant map(const std::string& name);  // Constants::map

  // Memory for what is packed, which lives as long as the program.
  std::shared_ptr<unsigned char> reserve(size_t bytes) { return region_.take(bytes); }

  ferrule_pool* pool() const { return pool_; }

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
  Constant find_array(const std::string& name, const std::function<Constant()>& fetch);

  struct Made {
    std::weak_ptr<const void> object;
    size_t bytes = 0;
  };
  struct Read {
    Spec spec;
    std::weak_ptr<unsigned char> memory;
  };
  const Constants& constants_;
  ferrule_pool* pool_;
  Lender lender_;
  Region region_;
  std::map<std::string, Made> made_;
  std::map<std::string, Read> read_;
};

}  // namespace ferrule::executor

#endif
