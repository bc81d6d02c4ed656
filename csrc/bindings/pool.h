#ifndef FERRULE_BINDINGS_POOL_H
#define FERRULE_BINDINGS_POOL_H

#include <pybind11/pybind11.h>

#include <cstddef>
#include <memory>

#include "ferrule/threads.h"

namespace ferrule::bindings {

namespace py = pybind11;

// A call holds one, so that closing the pool meanwhile ends its threads after the call.
using SharedPool = std::shared_ptr<ferrule_pool>;

// `ferrule.runtime._C.Pool`.
class Pool {
 public:
  explicit Pool(const py::object& threads);
  size_t threads() const { return threads_; }
  void close() { pool_.reset(); }
  const SharedPool& get() const { return pool_; }
  long owner() const { return owner_; }  // the process whose threads they are

 private:
  size_t threads_;
  long owner_;
  SharedPool pool_;
};

// The pool of a `pool` argument; nothing, which stands for the calling thread, where it is None or came here
// by a fork.
SharedPool require_pool(const py::object& pool);

}  // namespace ferrule::bindings

#endif
