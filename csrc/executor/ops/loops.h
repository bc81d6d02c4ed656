// Loops over a result to which inputs are broadcast.
#ifndef FERRULE_EXECUTOR_OPS_LOOPS_H
#define FERRULE_EXECUTOR_OPS_LOOPS_H

#include <initializer_list>

#include "executor/value.h"

namespace ferrule::executor {

constexpr size_t kMostBroadcast = 3;

// The result's axes without those of length 1, and with neighbours joined that all inputs step over as one:
// equal shapes are one axis, and so is a bias beside the axes before it. The last axis has strides of 0 or 1.
struct Loops {
  size_t rank = 0;
  size_t dims[kMostRank] = {};
  size_t strides[kMostRank][kMostBroadcast] = {};

  size_t inner() const { return dims[rank - 1]; }
  size_t inner_stride(size_t input) const { return strides[rank - 1][input]; }
};

Loops make_loops(const Shape& result, std::initializer_list<const Shape*> inputs);

// Calls body(offsets of the inputs, offset of the result, count) for each run along the last axis of elements
// [begin, end).
template <typename Body>
void for_rows(const Loops& loops, size_t begin, size_t end, const Body& body) {
  const size_t last = loops.rank - 1, inner = loops.dims[last];
  size_t index[kMostRank] = {}, at[kMostBroadcast] = {}, first[kMostBroadcast];
  size_t row = begin / inner, skipped = begin % inner;
  for (size_t axis = last; axis-- > 0;) {
    index[axis] = row % loops.dims[axis];
    row /= loops.dims[axis];
    for (size_t i = 0; i < kMostBroadcast; ++i) at[i] += index[axis] * loops.strides[axis][i];
  }
  while (begin < end) {
    const size_t count = inner - skipped < end - begin ? inner - skipped : end - begin;
    for (size_t i = 0; i < kMostBroadcast; ++i) first[i] = at[i] + skipped * loops.strides[last][i];
    body(first, begin, count);
    begin += count;
    skipped = 0;
    for (size_t axis = last; axis-- > 0;) {
      const bool wraps = ++index[axis] == loops.dims[axis];
      for (size_t i = 0; i < kMostBroadcast; ++i)
        at[i] += wraps ? size_t{0} - (loops.dims[axis] - 1) * loops.strides[axis][i] : loops.strides[axis][i];
      if (!wraps) break;
      index[axis] = 0;
    }
  }
}

}  // namespace ferrule::executor

#endif
