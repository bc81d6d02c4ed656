// Weights of linear layers and convolutions, packed for the strongest instruction set.
#ifndef FERRULE_EXECUTOR_OPS_PACKED_H
#define FERRULE_EXECUTOR_OPS_PACKED_H

#include <memory>

#include "executor/node.h"
#include "ferrule/linear.h"

namespace ferrule::executor {

// The array `scales`: [rows, groups], or [rows] where there is one group.
Constant read_scales(const Node& node, size_t rows, size_t groups);

// Weights as the node names them, checked against each other but not packed.
struct Weights {
  ferrule_linear_spec spec;  // rows: the first axis of the weight; depth: all others
  Shape shape;               // of the weight
  Constant weight, scales, table, bias;
  ferrule_linear_weights pointers() const;
};

// Reads {kind, weight | codes, bits, scales, table, bias, group, input, input_scale, input_zero}. rank: axes
// of the weight, of which none is empty.
Weights read_weights(const Node& node, size_t rank);

struct PackedWeights {
  std::shared_ptr<unsigned char> memory;
  size_t bytes = 0;
};

// Packs the rows in `groups` equal parts (1 for a linear layer). Throws Error FER-NAT-003 where the kernel
// takes no such weights.
PackedWeights pack_weights(const Node& node, const Weights& weights, size_t groups);

}  // namespace ferrule::executor

#endif
