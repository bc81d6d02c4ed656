#include "executor/ops/loops.h"

namespace ferrule::executor {

namespace {

// Whether the axis before continues in this one for every input.
bool continues(const Loops& loops, size_t dim, const size_t* strides) {
  if (loops.rank == 0) return false;
  for (size_t i = 0; i < kMostBroadcast; ++i) {
    if (loops.strides[loops.rank - 1][i] != strides[i] * dim) return false;
  }
  return true;
}

}  // namespace

Loops make_loops(const Shape& result, std::initializer_list<const Shape*> inputs) {
  size_t strides[kMostRank][kMostBroadcast] = {};
  size_t number = 0;
  for (const Shape* input : inputs) {
    size_t stride = 1;
    for (size_t axis = input->rank; axis-- > 0;) {
      const size_t dim = (*input)[axis];
      strides[result.rank - input->rank + axis][number] = dim == 1 ? 0 : stride;
      stride *= dim;
    }
    ++number;
  }
  Loops loops;
  for (size_t axis = 0; axis < result.rank; ++axis) {
    if (result[axis] == 1) continue;
    if (continues(loops, result[axis], strides[axis])) {
      loops.dims[loops.rank - 1] *= result[axis];
    } else {
      loops.dims[loops.rank++] = result[axis];
    }
    for (size_t i = 0; i < kMostBroadcast; ++i) loops.strides[loops.rank - 1][i] = strides[axis][i];
  }
  if (loops.rank == 0) loops.dims[loops.rank++] = 1;
  return loops;
}

}  // namespace ferrule::executor
