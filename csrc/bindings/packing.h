// What layers with packed weights of any codec take alike.
#ifndef FERRULE_BINDINGS_PACKING_H
#define FERRULE_BINDINGS_PACKING_H

#include <optional>

#include "ferrule/linear.h"
#include "tensor.h"

namespace ferrule::bindings {

// The arguments of `pack` beside the weight and the instruction set.
struct Codec {
  const py::object &scales, &kind, &input, &table, &bias, &group, &sparse, &input_scale, &input_zero;
};

// Checked weights, and the tensors that hold their memory.
struct Weights {
  ferrule_linear_spec spec;  // rows: the first axis of the weight; depth: all others
  Tensor weight;
  std::optional<Tensor> scales, table, bias;

  ferrule_linear_weights pointers() const;
};

// `rank`: that of the weight; `groups`: parts of its rows, which share no palette.
Weights read_weights(const py::object& weight, size_t rank, size_t groups, const Codec& codec);

bool is_lookup(const ferrule_linear_spec& spec);

// What a packed layer says of itself.
py::dict tell(const ferrule_linear_info& info);

}  // namespace ferrule::bindings

#endif
