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

// Calls kernel(args, begin, end, scratch of the thread) for parts of [0, units), each of `grain` units or the
// rest. `scratch` holds `scratch_bytes` for each thread of the pool, or is NULL.
template <typename Args>
void run(void (*kernel)(const Args*, size_t, size_t, void*), const Args& args, size_t units, size_t grain,
         ferrule_pool* pool, void* scratch = nullptr, size_t scratch_bytes = 0) {
  struct Context {
    void (*kernel)(const Args*, size_t, size_t, void*);
    const Args* args;
    size_t units, grain;
    char* scratch;
    size_t scratch_bytes;
  } context{kernel, &args, units, grain ? grain : 1, static_cast<char*>(scratch), scratch_bytes};
  const size_t tasks = units / context.grain + (units % context.grain != 0);
  const auto task = [](void* opaque, size_t index, size_t worker) {
    const auto& c = *static_cast<Context*>(opaque);
    const size_t begin = index * c.grain;
    const size_t end = c.units - begin < c.grain ? c.units : begin + c.grain;
    c.kernel(c.args, begin, end, c.scratch ? c.scratch + worker * c.scratch_bytes : nullptr);
  };
  ferrule_pool_run(pool, tasks, task, &context);
}

// Units for one task: about four tasks a thread, so that a slow thread can be helped out, yet each of at
// least `smallest` units, below which handing a task over costs more than doing it.
inline size_t choose_grain(size_t units, size_t smallest, const ferrule_pool* pool) {
  const size_t threads = ferrule_pool_threads(pool);
  if (threads == 1) return units;
  const size_t share = units / (4 * threads) + 1;
  return share < smallest ? smallest : share;
}

}  // namespace ferrule::ops

#endif
