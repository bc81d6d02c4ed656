#include "pool.h"

#ifndef _WIN32
#include <unistd.h>
#endif

#include "arguments.h"
#include "groups.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

constexpr int64_t kMostThreads = 1024;

long process() {
#ifdef _WIN32
  return 0;
#else
  return getpid();
#endif
}

}  // namespace

Pool::Pool(const py::object& threads)
    : threads_(static_cast<size_t>(require_integer(threads, "threads", 1, kMostThreads))), owner_(process()) {
  ferrule_pool* pool = ferrule_pool_create(threads_);
  if (!pool) refuse_size("threads", std::to_string(threads_), "as many threads as the system still starts");
  // A forked child has the pool but none of its threads: waiting for them would never end, so it lets them
  // be.
  pool_ = SharedPool(pool, [owner = owner_](ferrule_pool* pool) {
    if (process() == owner) ferrule_pool_destroy(pool);
  });
}

SharedPool require_pool(const py::object& pool) {
  if (pool.is_none()) return nullptr;
  if (!py::isinstance<Pool>(pool)) refuse_type("pool", describe(pool), "None or a Pool");
  const auto& threads = pool.cast<const Pool&>();
  if (!threads.get()) refuse_value("pool", "a pool that was closed", "an open one");
  // Of the threads a fork leaves nothing but, it may be, a mutex that one of them held.
  if (threads.owner() != process()) return nullptr;
  return threads.get();
}

void bind_pool(py::module_& module) {
  py::class_<Pool>(module, "Pool", "Threads that run kernels, the calling one counted in.")
      .def(py::init<const py::object&>(), py::arg("threads"))
      .def_property_readonly("threads", &Pool::threads, "How many there are, the calling one counted in.")
      .def("close", &Pool::close, "Ends the threads; a call that is at work ends first.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__", [](Pool& self, const py::args&) { self.close(); });
}

}  // namespace ferrule::bindings
