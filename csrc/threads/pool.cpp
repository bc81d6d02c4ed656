#include <stdint.h>

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

// The tasks that a thread has still to do, packed so that one exchange takes one from either end.
struct alignas(kCacheLine) Share {
  std::atomic<uint64_t> range{0};
};

constexpr uint64_t pack(uint64_t begin, uint64_t end) { return end << 32 | begin; }

}  // namespace

// A run divides its tasks evenly in shares, one for each thread: the same thread gets the same part of one op
// after another, and finds it in its cache. A thread that is done takes from the others' far ends. Whoever
// takes a task holds it, and the job stays in place until all held tasks are `done`; so a thread that comes
// late either gets a task of the present job or finds none, and no run waits for threads that sleep.
struct ferrule_pool {
  alignas(kCacheLine) std::atomic<size_t> done{0};
  alignas(kCacheLine) std::atomic<bool> busy{false};
  std::atomic<bool> stopping{false};
  std::atomic<size_t> jobs{0};  // counts up; what a waiting thread looks at
  std::atomic<size_t> sleepers{0};

  size_t tasks = 0;
  ferrule_task* task = nullptr;
  void* context = nullptr;

  std::mutex mutex;
  std::condition_variable wake;
  std::vector<Share> shares;
  std::vector<std::thread> threads;
};

namespace {

// Takes the first task of the share, or its last.
bool take_task(Share& share, bool first, size_t* index) {
  uint64_t range = share.range.load(std::memory_order_acquire);
  while (true) {
    const uint64_t begin = range & UINT32_MAX, end = range >> 32;
    if (begin >= end) return false;
    *index = static_cast<size_t>(first ? begin : end - 1);
    const uint64_t rest = first ? pack(begin + 1, end) : pack(begin, end - 1);
    if (share.range.compare_exchange_weak(range, rest, std::memory_order_acq_rel)) return true;
  }
}

// Runs tasks until none is left.
void take_tasks(ferrule_pool& pool, size_t worker) {
  const size_t threads = pool.shares.size();
  for (size_t i = 0, index = 0; i < threads; ++i) {
    const size_t whose = worker + i < threads ? worker + i : worker + i - threads;
    while (take_task(pool.shares[whose], i == 0, &index)) {
      pool.task(pool.context, index, worker);
      pool.done.fetch_add(1, std::memory_order_acq_rel);
    }
  }
}

// Waits for another job than the one of number `seen`; returns its number.
size_t wait_for_news(ferrule_pool& pool, size_t seen) {
  const auto has_news = [&pool, seen] { return pool.jobs.load() != seen || pool.stopping.load(); };
  for (int spin = 0; spin < kSpins; ++spin) {
    if (has_news()) return pool.jobs.load();
    pause_briefly();
  }
  std::unique_lock<std::mutex> lock(pool.mutex);
  pool.sleepers.fetch_add(1);
  pool.wake.wait(lock, has_news);
  pool.sleepers.fetch_sub(1);
  return pool.jobs.load();
}

void serve(ferrule_pool* pool, size_t worker) {
  size_t seen = 0;
  while (!pool->stopping.load()) {
    take_tasks(*pool, worker);
    seen = wait_for_news(*pool, seen);
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
    pool->shares = std::vector<Share>(threads ? threads : 1);
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
  const bool alone = !pool || pool->threads.empty() || tasks < 2 || tasks > UINT32_MAX;
  if (alone || pool->busy.exchange(true, std::memory_order_acquire)) {
    for (size_t index = 0; index < tasks; ++index) task(context, index, 0);
    return;
  }
  pool->tasks = tasks;
  pool->task = task;
  pool->context = context;
  pool->done.store(0, std::memory_order_relaxed);
  const size_t shares = pool->shares.size();
  for (size_t i = 0, begin = 0; i < shares; ++i) {
    const size_t end = begin + tasks / shares + (i < tasks % shares);
    pool->shares[i].range.store(pack(begin, end), std::memory_order_release);
    begin = end;
  }
  pool->jobs.fetch_add(1);  // sequentially consistent, as the look at `sleepers` that follows must be
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
