// Where every value of an entry point lies, for given lengths of its dynamic axes.
#ifndef FERRULE_EXECUTOR_PLAN_H
#define FERRULE_EXECUTOR_PLAN_H

#include <vector>

#include "executor/graph.h"

namespace ferrule::executor {

// A value's memory: at an offset of the arena, or that of an input, a constant or a state.
struct Home {
  enum class Kind : uint8_t { kArena, kInput, kConstant, kState } kind = Kind::kArena;
  size_t index = 0;  // the offset in bytes, or the number
};

struct Plan {
  Lengths lengths;
  std::vector<Spec> specs;  // of each value
  std::vector<Home> homes;  // of each value
  // Outputs and updates that lie in the memory of a state which another value takes when the run ends: they
  // are moved to the arena before.
  struct Rescue {
    size_t value, offset;
  };
  std::vector<Rescue> rescues;
  // Of each value in the arena the output in whose memory it can lie as well, where a caller gives some: it
  // shares its block with no other output. kNone for the others.
  static constexpr size_t kNone = SIZE_MAX;
  std::vector<size_t> outputs;
  size_t values_bytes = 0;  // of the arena; scratch memory follows
  size_t scratch_bytes = 0;
  size_t live_bytes = 0;  // the largest sum of values that are alive at once: no plan can do with less
};

// Infers all shapes and places values by size, the largest first, each at the lowest offset that is free
// while it lives. What is written into a state takes place in its memory where the state becomes the result
// and nothing reads its old value later. Throws Error FER-NAT-004 where an op's inputs do not fit it,
// FER-NAT-005 for sizes that overflow.
Plan make_plan(const Entry& entry, const Graph& graph, const Lengths& lengths, size_t threads);

}  // namespace ferrule::executor

#endif
