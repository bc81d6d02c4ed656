// Weights of linear layers and convolutions, packed for the strongest instruction set.
#ifndef FERRULE_EXECUTOR_OPS_PACKED_H
#define FERRULE_EXECUTOR_OPS_PACKED_H

#include <memory>

#include "executor/node.h"
#include "ferrule/linear.h"

namespace ferrule::executor {

// The array `scales`: [rows, groups], or [rows] where there is one group.
Constant read_scales(const Node& node, size_t rows, size_t groups);

// Weights as the node names them, checked against each other but not packed; `weight` is borrowed.
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
  size_t rows = 0, depth = 0;  // of all groups
};

// Packs the rows in `groups` equal parts, once for all nodes that name the same arrays. Throws Error
// FER-NAT-003 where the kernel takes no such weights.
std::shared_ptr<const PackedWeights> pack_weights(const Node& node, const Weights& weights, size_t groups);

// Those of a linear layer, which are read only where no other node has packed them.
std::shared_ptr<const PackedWeights> pack_linear(const Node& node);

}  // namespace ferrule::executor

#endif
