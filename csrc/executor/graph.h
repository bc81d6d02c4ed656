// A program's graph: entry points, each a list of nodes in the order in which they run.
//
//   {"entries": [{"name": "forward", "dims": [{"name": "s", "min": 1, "max": 256}],
//     "inputs": [{"name": "ids", "dtype": "int64", "shape": [1, "s"]}],
//     "nodes": [{"op": "embedding", "in": [0], "table": "word.table", "source": "model.py:3"}, ...],
//     "outputs": [{"name": "y", "value": 7}], "updates": [["cache", 9]]}],
//    "states": [{"name": "cache", "initial": "cache.initial"}]}
//
// Values are numbered: the inputs of the entry point first, then the results of its nodes (`results` of them,
// 1 where it is not said). An element of `in` is such a number, the name of an array of the file, or `@` and
// the name of a state, which holds what `updates` put there at the end of the last run.
#ifndef FERRULE_EXECUTOR_GRAPH_H
#define FERRULE_EXECUTOR_GRAPH_H

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "executor/node.h"

namespace ferrule::executor {

struct Dim {
  std::string name;
  int64_t min, max;
};

struct InputPort {
  std::string name;
  Dtype dtype;
  std::vector<Expression> shape;
  std::vector<size_t> axes;  // for each axis the number of the dim that it is, or kFixed
  static constexpr size_t kFixed = SIZE_MAX;
};

struct OutputPort {
  std::string name;
  size_t value;
};

// Where a node's input comes from.
struct Source {
  enum class Kind : uint8_t { kValue, kConstant, kState } kind;
  size_t index;
};

struct Step {
  std::unique_ptr<Op> op;
  std::string name, place;  // "linear", "linear (model.py:12)"
  std::vector<Source> inputs;
  size_t first_result, results;  // numbers of its values
};

struct Update {
  size_t state, value;
};

struct Entry {
  std::string name;
  std::vector<Dim> dims;
  std::vector<InputPort> inputs;
  std::vector<Step> steps;
  std::vector<OutputPort> outputs;
  std::vector<Update> updates;
  size_t values;  // how many
};

struct State {
  std::string name;
  Constant initial;
};

struct Graph {
  std::vector<Entry> entries;
  std::vector<State> states;
  std::vector<Constant> constants;  // those that nodes take as inputs
  size_t weight_bytes = 0;          // of all arrays that are in memory, packed or as they are
  std::set<std::string> kernels;    // those that nodes may run, as kernels/table.inc names them
};

// pool: threads that help to pack weights, or NULL. Throws Error: FER-NAT-002 for a text that is no JSON,
// FER-NAT-003 for one that is no graph, or of ops unknown here.
Graph read_graph(const std::string& text, const Constants& constants, ferrule_pool* pool = nullptr);

}  // namespace ferrule::executor

#endif
