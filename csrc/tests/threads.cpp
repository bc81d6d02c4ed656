#include "ferrule/threads.h"

#include <atomic>
#include <thread>
#include <vector>

namespace ferrule::tests {

namespace {

struct Counts {
  std::vector<std::atomic<int>> runs;
  std::vector<std::atomic<int>> inside;  // of each worker
  std::atomic<bool> overlapped{false};
  explicit Counts(size_t tasks, size_t threads) : runs(tasks), inside(threads) {}
};

void count_task(void* context, size_t index, size_t worker) {
  auto& counts = *static_cast<Counts*>(context);
  if (counts.inside[worker].fetch_add(1) != 0) counts.overlapped = true;
  counts.runs[index].fetch_add(1);
  counts.inside[worker].fetch_sub(1);
}

bool runs_each_task_once(ferrule_pool* pool, size_t tasks) {
  Counts counts(tasks, ferrule_pool_threads(pool));
  ferrule_pool_run(pool, tasks, count_task, &counts);
  for (const std::atomic<int>& runs : counts.runs) {
    if (runs != 1) return false;
  }
  return !counts.overlapped;
}

struct Nested {
  ferrule_pool* pool;
  std::atomic<int> runs{0};
};

void run_inside(void* context, size_t, size_t) {
  auto& nested = *static_cast<Nested*>(context);
  ferrule_pool_run(
      nested.pool, 3, [](void* c, size_t, size_t) { static_cast<Nested*>(c)->runs.fetch_add(1); }, &nested);
}

bool runs_from_inside_a_task(ferrule_pool* pool) {
  Nested nested{pool};
  ferrule_pool_run(pool, 5, run_inside, &nested);
  return nested.runs == 15;
}

bool runs_from_two_threads(ferrule_pool* pool) {
  std::atomic<bool> fine{true};
  const auto use = [&] {
    for (int i = 0; i < 200; ++i) {
      std::atomic<int> runs{0};
      ferrule_pool_run(pool, 7, [](void* c, size_t, size_t) { ++*static_cast<std::atomic<int>*>(c); }, &runs);
      if (runs != 7) fine = false;
    }
  };
  std::thread other(use);
  use();
  other.join();
  return fine;
}

}  // namespace

bool threads_pass() {
  if (!runs_each_task_once(nullptr, 5)) return false;
  for (size_t threads = 1; threads <= 5; ++threads) {
    ferrule_pool* pool = ferrule_pool_create(threads);
    if (!pool || ferrule_pool_threads(pool) != threads) return false;
    bool ok = true;
    for (size_t round = 0; round < 500; ++round) ok = ok && runs_each_task_once(pool, round % 9);
    ok =
        ok && runs_each_task_once(pool, 1000) && runs_from_inside_a_task(pool) && runs_from_two_threads(pool);
    // Long enough for the threads to fall asleep, then work again.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ok = ok && runs_each_task_once(pool, 40);
    ferrule_pool_destroy(pool);
    if (!ok) return false;
  }
  return true;
}

}  // namespace ferrule::tests
