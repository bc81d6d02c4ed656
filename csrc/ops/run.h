// What the ops share: choosing the kernel, and dividing its units of work over a pool.
#ifndef FERRULE_OPS_RUN_H
#define FERRULE_OPS_RUN_H

#include <stddef.h>
#include <stdint.h>

#include "ferrule/dispatch.h"
#include "ferrule/status.h"
#include "ferrule/threads.h"

namespace ferrule::ops {

// The kernel of `op` for `isa` (NULL: the active one); NULL where that instruction set cannot be used.
template <typename Fn>
Fn* find(const char* op, const char* isa) {
  const ferrule_isa_status status = isa ? ferrule_check_isa(isa) : ferrule_active_isa(&isa);
  if (status != FERRULE_ISA_USABLE) return nullptr;
  const ferrule_kernel* kernel = ferrule_find_kernel(op, isa);
  return kernel ? reinterpret_cast<Fn*>(kernel->function) : nullptr;
}

// Whether a * b * size fits an object.
inline bool fits(size_t a, size_t b, size_t size) {
  size_t product = 0;
  return !__builtin_mul_overflow(a, b, &product) && !__builtin_mul_overflow(product, size, &product) &&
         product <= PTRDIFF_MAX;
}

// Whether no value differs from the first, or is NaN.
inline bool all_equal(const float* values, size_t count) {
  bool equal = true;
  for (size_t i = 0; i < count; ++i) equal &= values[i] == values[0];
  return equal;
}

// Where part `index` of `parts` parts of nearly equal size of [0, units) begins.
inline size_t part_begin(size_t units, size_t parts, size_t index) {
  const size_t rest = units % parts;
  return units / parts * index + (index < rest ? index : rest);
}

// Calls kernel(args, begin, end, scratch of the thread) for `tasks` parts of [0, units), each of whole
// `step`s but for the last. `scratch` holds `scratch_bytes` for each thread of the pool, or is NULL.
template <typename Args>
void run(void (*kernel)(const Args*, size_t, size_t, void*), const Args& args, size_t units, size_t tasks,
         ferrule_pool* pool, void* scratch = nullptr, size_t scratch_bytes = 0, size_t step = 1) {
  struct Context {
    void (*kernel)(const Args*, size_t, size_t, void*);
    const Args* args;
    size_t units, steps, step, tasks;
    char* scratch;
    size_t scratch_bytes;
  } context{kernel,
            &args,
            units,
            units / step + (units % step != 0),
            step,
            tasks,
            static_cast<char*>(scratch),
            scratch_bytes};
  const auto task = [](void* opaque, size_t index, size_t worker) {
    const auto& c = *static_cast<Context*>(opaque);
    const size_t begin = part_begin(c.steps, c.tasks, index) * c.step;
    const size_t end = index + 1 < c.tasks ? part_begin(c.steps, c.tasks, index + 1) * c.step : c.units;
    c.kernel(c.args, begin, end, c.scratch ? c.scratch + worker * c.scratch_bytes : nullptr);
  };
  ferrule_pool_run(pool, tasks, task, &context);
}

// How many tasks to make of `units`: four a thread, so that a slow thread can be helped out, unless they
// would have fewer than `smallest` units, below which handing a task over costs more than doing it; as many
// for each thread.
inline size_t choose_tasks(size_t units, size_t smallest, const ferrule_pool* pool) {
  const size_t threads = ferrule_pool_threads(pool), most = units / smallest;
  if (threads == 1 || most < 2) return units != 0;
  if (most < threads) return most;
  return threads * (most / threads < 4 ? most / threads : 4);
}

}  // namespace ferrule::ops

#endif
