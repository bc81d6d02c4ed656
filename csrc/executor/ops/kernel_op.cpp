#include "executor/ops/kernel_op.h"

#include <float.h>
#include <math.h>

namespace ferrule::executor {

float read_float(const Node& node, const char* attribute) {
  const double value = node.number(attribute);
  if (!(fabs(value) <= FLT_MAX)) node.refuse("`" + std::string(attribute) + "` is no finite float32");
  return static_cast<float>(value);
}

size_t require_size(const Node& node, const char* attribute, int64_t value, int64_t least) {
  if (value < least || value > INT32_MAX) node.refuse("`" + std::string(attribute) + "` is out of range");
  return static_cast<size_t>(value);
}

KernelOp::KernelOp(const Node& node) : TensorOp(node) {}

KernelOp::~KernelOp() = default;

void KernelOp::expect_floats(const Spec& input, size_t least_rank) const {
  if (input.dtype != Dtype::kFloat32 || input.shape.rank < least_rank) {
    misfit("an input is " + std::string(name_of(input.dtype)) + " " + input.shape.text() +
           " where float32 of at least " + std::to_string(least_rank) + " axes is needed");
  }
}

void KernelOp::expect(const Spec& input, Dtype dtype, const Shape& shape) const {
  if (input.dtype == dtype && input.shape == shape) return;
  misfit("an input is " + std::string(name_of(input.dtype)) + " " + input.shape.text() + " where " +
         name_of(dtype) + " " + shape.text() + " is needed");
}

void KernelOp::misfit_shapes(const Shape& a, const Shape& b) const {
  misfit("its inputs " + a.text() + ", " + b.text() + " do not fit, or are too large");
}

void KernelOp::require_ok(ferrule_status status) const {
  if (status) refuse_value(ferrule_status_text(status));
}

}  // namespace ferrule::executor
