#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "ferrule/threads.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace {

constexpr size_t kCacheLine = 64;
constexpr int kSpins = 4000;  // some 50 us of pauses: longer than the gap between two layers of a model

void pause_briefly() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

}  // namespace

// A run publishes its job, then the number of its tasks in `left`. Whoever lowers `left` holds a task, and
// the job stays in place until all held tasks are `done`; so a thread that comes late either gets a task of
// the present job or finds none left, and no run waits for threads that sleep.
struct ferrule_pool {
  alignas(kCacheLine) std::atomic<size_t> left{0};
  alignas(kCacheLine) std::atomic<size_t> done{0};
  alignas(kCacheLine) std::atomic<bool> busy{false};
  std::atomic<bool> stopping{false};
  std::atomic<size_t> sleepers{0};

  size_t tasks = 0;
  ferrule_task* task = nullptr;
  void* context = nullptr;

  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::thread> threads;
};

namespace {

// Runs tasks until none is left.
void take_tasks(ferrule_pool& pool, size_t worker) {
  size_t left = pool.left.load(std::memory_order_acquire);
  while (left > 0) {
    if (!pool.left.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel)) continue;
    pool.task(pool.context, pool.tasks - left, worker);
    pool.done.fetch_add(1, std::memory_order_acq_rel);
    left = pool.left.load(std::memory_order_acquire);
  }
}

bool has_news(const ferrule_pool& pool) { return pool.left.load() > 0 || pool.stopping.load(); }

void wait_for_news(ferrule_pool& pool) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (has_news(pool)) return;
    pause_briefly();
  }
  std::unique_lock<std::mutex> lock(pool.mutex);
  pool.sleepers.fetch_add(1);
  pool.wake.wait(lock, [&pool] { return has_news(pool); });
  pool.sleepers.fetch_sub(1);
}

void serve(ferrule_pool* pool, size_t worker) {
  while (!pool->stopping.load()) {
    take_tasks(*pool, worker);
    wait_for_news(*pool);
  }
}

void wake_sleepers(ferrule_pool& pool) {
  if (pool.sleepers.load() == 0) return;
  // The lock orders this with a thread that has just counted itself as asleep and not yet waits.
  {
    const std::lock_guard<std::mutex> lock(pool.mutex);
  }
  pool.wake.notify_all();
}

}  // namespace

ferrule_pool* ferrule_pool_create(size_t threads) {
  auto* pool = new (std::nothrow) ferrule_pool;
  if (!pool) return nullptr;
  try {
    for (size_t worker = 1; worker < threads; ++worker) pool->threads.emplace_back(serve, pool, worker);
  } catch (const std::system_error&) {
    ferrule_pool_destroy(pool);
    return nullptr;
  } catch (const std::bad_alloc&) {
    ferrule_pool_destroy(pool);
    return nullptr;
  }
  return pool;
}

void ferrule_pool_destroy(ferrule_pool* pool) {
  if (!pool) return;
  pool->stopping.store(true);
  wake_sleepers(*pool);
  for (std::thread& thread : pool->threads) thread.join();
  delete pool;
}

size_t ferrule_pool_threads(const ferrule_pool* pool) { return pool ? pool->threads.size() + 1 : 1; }

void ferrule_pool_run(ferrule_pool* pool, size_t tasks, ferrule_task* task, void* context) {
  const bool alone = !pool || pool->threads.empty() || tasks < 2;
  if (alone || pool->busy.exchange(true, std::memory_order_acquire)) {
    for (size_t index = 0; index < tasks; ++index) task(context, index, 0);
    return;
  }
  pool->tasks = tasks;
  pool->task = task;
  pool->context = context;
  pool->done.store(0, std::memory_order_relaxed);
  pool->left.store(tasks);  // sequentially consistent, as the look at `sleepers` that follows must be
  wake_sleepers(*pool);
  take_tasks(*pool, 0);
  for (int spin = 0; pool->done.load(std::memory_order_acquire) < tasks; ++spin) {
    // A thread that holds the last task may have lost its core; then give it ours.
    if (spin < kSpins)
      pause_briefly();
    else
      std::this_thread::yield();
  }
  pool->busy.store(false, std::memory_order_release);
}
