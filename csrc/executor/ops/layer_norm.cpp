// (x - mean) / sqrt(variance + epsilon) * weight + bias over the last `axes` axes; of x + residual where it
// is given. {epsilon, axes, weight and bias optional}, in [x] or [x, residual].
#include "executor/ops/norm.h"

namespace ferrule::executor {

std::unique_ptr<Op> make_layer_norm(const Node& node) {
  return std::make_unique<Norm<ferrule_layer_norm_args>>(node, &ferrule_layer_norm);
}

}  // namespace ferrule::executor
