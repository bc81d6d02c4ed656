// A program, opened: its graph, its threads, and the memory of its runs.
#ifndef FERRULE_EXECUTOR_PROGRAM_H
#define FERRULE_EXECUTOR_PROGRAM_H

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "executor/graph.h"
#include "executor/plan.h"
#include "ferrule/arena.h"

namespace ferrule::executor {

class Program {
 public:
  // Reads the file and packs its weights. Throws Error.
  Program(const std::string& path, size_t threads);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const Graph& graph() const { return graph_; }
  size_t find_entry(const std::string& name) const;  // throws Error FER-NAT-004

  // Runs an entry point on arrays in the order of its inputs and hands the results to `take`: they lie in the
  // program's memory, where the next run writes. seconds: NULL, or room for the time of each step. Throws
  // Error: FER-NAT-004 for shapes and dtypes, FER-NAT-007 where another thread is at it.
  using Take = std::function<void(const std::vector<Array>& results)>;
  void run(size_t entry, const std::vector<Array>& inputs, const Take& take, double* seconds = nullptr);

  // The same, but that results are written where `place` says, which is asked before the first step.
  using Place = std::function<std::vector<void*>(const std::vector<Spec>& outputs)>;
  void run_into(size_t entry, const std::vector<Array>& inputs, const Place& place,
                double* seconds = nullptr);

  // The specs of the outputs for such inputs, whose `data` is not looked at. Throws Error as `run` does.
  std::vector<Spec> infer(size_t entry, const std::vector<Array>& inputs);

  // Puts all states back to their first values. Throws Error FER-NAT-007.
  void reset();

  // The plan of the last run of the entry point; NULL before the first.
  const Plan* last_plan(size_t entry) const;

 private:
  struct Prepared;
  struct PoolCloser {
    void operator()(ferrule_pool* pool) const { ferrule_pool_destroy(pool); }
  };
  Prepared& prepare(size_t entry, const std::vector<Array>& inputs);
  Lengths bind_lengths(const Entry& entry, const std::vector<Array>& inputs) const;
  std::unique_ptr<Prepared> build(size_t entry, Lengths lengths);
  std::vector<Spec> output_specs(size_t entry, const Plan& plan) const;
  void run_prepared(size_t entry, Prepared& prepared, const std::vector<Array>& inputs,
                    const std::vector<void*>& outputs, const Take& take, double* seconds);
  void run_steps(const Entry& entry, Prepared& prepared, double* seconds);

  Graph graph_;
  std::vector<std::shared_ptr<unsigned char>> states_;
  std::unique_ptr<ferrule_pool, PoolCloser> pool_;  // NULL where one thread is enough
  ferrule_arena arena_ = {};
  std::vector<std::vector<std::unique_ptr<Prepared>>> prepared_;  // of each entry point, the last used first
  std::atomic<bool> busy_{false};
};

}  // namespace ferrule::executor

#endif
