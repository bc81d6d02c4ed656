#include "executor/ops/kernel_op.h"

namespace ferrule::executor {

KernelOp::KernelOp(const Node& node) : TensorOp(node) {}

KernelOp::~KernelOp() = default;

void KernelOp::expect_floats(const Spec& input, size_t least_rank) const {
  if (input.dtype != Dtype::kFloat32 || input.shape.rank < least_rank) {
    misfit("an input is " + std::string(name_of(input.dtype)) + " " + input.shape.text() +
           " where float32 of at least " + std::to_string(least_rank) + " axes is needed");
  }
}

void KernelOp::expect_shape(const Spec& input, const Shape& shape) const {
  if (input.dtype != Dtype::kFloat32 || input.shape != shape) {
    misfit("an input is " + std::string(name_of(input.dtype)) + " " + input.shape.text() + " where float32 " +
           shape.text() + " is needed");
  }
}

void KernelOp::require_ok(ferrule_status status) const {
  if (status) refuse_value(ferrule_status_text(status));
}

}  // namespace ferrule::executor
