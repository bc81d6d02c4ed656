// What the ops that run the kernels of ferrule/*.h share: reading their attributes, checking their inputs.
#ifndef FERRULE_EXECUTOR_OPS_KERNEL_OP_H
#define FERRULE_EXECUTOR_OPS_KERNEL_OP_H

#include <string>
#include <vector>

#include "executor/ops/tensor.h"
#include "ferrule/gemm.h"
#include "ferrule/status.h"

namespace ferrule::executor {

// A word that an attribute may be, and what it stands for.
struct Word {
  const char* name;
  int value;
};

template <size_t N>
int read_word(const Node& node, const char* attribute, const Word (&words)[N]) {
  const std::string& found = node.text(attribute);
  for (const Word& word : words) {
    if (found == word.name) return word.value;
  }
  node.refuse("`" + std::string(attribute) + "` is " + found);
}

inline ferrule_activation read_activation(const Node& node) {
  constexpr Word kActivations[] = {
      {"relu", FERRULE_ACTIVATION_RELU},           {"gelu", FERRULE_ACTIVATION_GELU},
      {"gelu_tanh", FERRULE_ACTIVATION_GELU_TANH}, {"silu", FERRULE_ACTIVATION_SILU},
      {"relu6", FERRULE_ACTIVATION_RELU6},         {"hard_swish", FERRULE_ACTIVATION_HARD_SWISH}};
  if (!node.has("activation")) return FERRULE_ACTIVATION_NONE;
  return static_cast<ferrule_activation>(read_word(node, "activation", kActivations));
}

// A number as float32, finite.
float read_float(const Node& node, const char* attribute);

// A whole number of [least, INT32_MAX].
size_t require_size(const Node& node, const char* attribute, int64_t value, int64_t least);

inline std::vector<size_t> read_sizes(const Node& node, const char* attribute, size_t count, int64_t least) {
  std::vector<size_t> sizes;
  for (const int64_t value : node.integers(attribute))
    sizes.push_back(require_size(node, attribute, value, least));
  if (sizes.size() != count)
    node.refuse("`" + std::string(attribute) + "` must have " + std::to_string(count) + " numbers");
  return sizes;
}

// Refuses the node where its kernel takes no such weights.
inline void require_packed(const Node& node, ferrule_status status) {
  if (status) {
    node.refuse("its kernel refuses the weights: " + std::string(ferrule_status_text(status)) + " (" +
                ferrule_status_code(status) + ")");
  }
}

// Product of all axes but the last.
inline size_t row_count(const Shape& shape) { return count_axes(shape, 0, shape.rank ? shape.rank - 1 : 0); }

class KernelOp : public TensorOp {
 protected:
  explicit KernelOp(const Node& node);
  ~KernelOp() override;

  void expect_floats(const Spec& input, size_t least_rank) const;
  void expect(const Spec& input, Dtype dtype, const Shape& shape) const;
  void expect_shape(const Spec& input, const Shape& shape) const { expect(input, Dtype::kFloat32, shape); }
  [[noreturn]] void misfit_shapes(const Shape& a, const Shape& b) const;
  // `infer` lets nothing through that a kernel refuses but for values.
  void require_ok(ferrule_status status) const;
};

}  // namespace ferrule::executor

#endif
