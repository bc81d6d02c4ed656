// x / sqrt(mean(x^2) + epsilon) * weight over the last `axes` axes; of x + residual where it is given.
// {epsilon, axes, weight optional}, in [x] or [x, residual].
#include "executor/ops/norm.h"

namespace ferrule::executor {

std::unique_ptr<Op> make_rms_norm(const Node& node) {
  return std::make_unique<Norm<ferrule_rms_norm_args>>(node, &ferrule_rms_norm);
}

}  // namespace ferrule::executor
