// An op of a program: made once from its node, then asked for the shapes of its results whenever lengths
// change, and run. Ops check what they are given in `infer`, with which all sizes follow from the program's
// inputs; `run` trusts.
#ifndef FERRULE_EXECUTOR_OP_H
#define FERRULE_EXECUTOR_OP_H

#include <memory>
#include <vector>

#include "executor/value.h"
#include "ferrule/threads.h"

namespace ferrule::executor {

class Node;  // executor/node.h: name, attributes and constants of a node

// Lengths of the dynamic axes, by number.
using Lengths = std::vector<int64_t>;

// One call of an op.
struct Call {
  const Array* inputs;
  const Array* outputs;
  size_t input_count, output_count;
  void* scratch;  // FERRULE_ALIGNMENT-aligned
  ferrule_pool* pool;
  const Lengths* lengths;
};

class Op {
 public:
  virtual ~Op();

  // The results' specs. Throws Error FER-NAT-004 where the inputs do not fit.
  virtual std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths& lengths) = 0;

  // Scratch memory of a run with the inputs of the last `infer`.
  virtual size_t scratch(const std::vector<Spec>& inputs, size_t threads) const;  // else 0

  // Whether the only result is the first input's memory under another shape: nothing is run.
  virtual bool is_view() const;  // else false

  // Whether the first result may take the place of input `index`, where both are as large.
  virtual bool may_overwrite(size_t index) const;  // else false

  // Whether the result is the first input but for what is written into it: such an op alone may work in the
  // memory of a state.
  virtual bool is_write() const;  // else false

  // Throws Error for values that are out of range (an index beyond its table).
  virtual void run(const Call& call) const = 0;
};

// Throws Error FER-NAT-003 for an op that is unknown, or lacks what it needs; FER-NAT-013 for one that this
// build was made without.
std::unique_ptr<Op> make_op(const Node& node);

}  // namespace ferrule::executor

#endif
