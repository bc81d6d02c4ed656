#include "executor/ops/packed.h"

#include "executor/ops/kernel_op.h"
#include "ferrule/conv.h"
#include "ops/linear_packed.h"

namespace ferrule::executor {

namespace {

bool is_affine(const ferrule_linear_spec& spec) {
  return spec.weight == FERRULE_WEIGHT_AFFINE8 || spec.weight == FERRULE_WEIGHT_AFFINE4;
}

ferrule_weight_kind read_kind(const Node& node) {
  enum { kFloat32, kAffine, kLookup };
  constexpr Word kKinds[] = {{"float32", kFloat32}, {"affine", kAffine}, {"lookup", kLookup}};
  const int kind = read_word(node, "kind", kKinds);
  if (kind == kFloat32) return FERRULE_WEIGHT_F32;
  const int64_t bits = node.integer("bits", 8);
  if (kind == kAffine && 2 <= bits && bits <= 8)
    return bits <= 4 ? FERRULE_WEIGHT_AFFINE4 : FERRULE_WEIGHT_AFFINE8;
  if (kind == kLookup && bits == 4) return FERRULE_WEIGHT_LOOKUP4;
  if (kind == kLookup && bits == 2) return FERRULE_WEIGHT_LOOKUP2;
  node.refuse("no kernel reads such weights of " + std::to_string(bits) + " bits");
}

ferrule_linear_spec read_spec(const Node& node) {
  constexpr Word kInputs[] = {{"float32", FERRULE_INPUT_F32},
                              {"dynamic8", FERRULE_INPUT_I8_DYNAMIC},
                              {"static8", FERRULE_INPUT_I8_STATIC}};
  ferrule_linear_spec spec = {};
  spec.weight = read_kind(node);
  spec.input = node.has("input") ? static_cast<ferrule_input_kind>(read_word(node, "input", kInputs))
                                 : FERRULE_INPUT_F32;
  spec.group = require_size(node, "group", node.integer("group", 0), 0);
  if (spec.input != FERRULE_INPUT_I8_STATIC) return spec;
  spec.input_scale = read_float(node, "input_scale");
  if (!(spec.input_scale >= 1e-30f && spec.input_scale <= 1e30f))
    node.refuse("`input_scale` is out of range");
  const int64_t zero = node.integer("input_zero");
  if (zero < -128 || zero > 127) node.refuse("`input_zero` is no int8");
  spec.input_zero = static_cast<int32_t>(zero);
  return spec;
}

void read_weight(const Node& node, size_t rank, Weights* weights) {
  ferrule_linear_spec& spec = weights->spec;
  if (spec.weight == FERRULE_WEIGHT_F32)
    weights->weight = node.borrow("weight", Dtype::kFloat32, rank);
  else
    weights->weight = node.borrow("codes", is_affine(spec) ? Dtype::kInt8 : Dtype::kUint8, rank);
  const Shape& shape = weights->shape = weights->weight.shape();
  // Packed weights are padded: from an empty array that says it has billions of rows they would take
  // gigabytes.
  if (shape.count() == 0) node.refuse("its weight " + shape.text() + " is empty");
  spec.rows = shape[0];
  spec.depth = shape.count() / spec.rows;
}

void expect(const Node& node, const char* name, const Constant& constant,
            std::initializer_list<size_t> dims) {
  Shape wanted;
  for (const size_t dim : dims) wanted.push(dim);
  if (constant.shape() != wanted)
    node.refuse("`" + std::string(name) + "` is " + constant.shape().text() + " where " + wanted.text() +
                " is needed");
}

void read_table(const Node& node, Weights* weights) {
  const ferrule_linear_spec& spec = weights->spec;
  if (spec.group && spec.rows % spec.group != 0) node.refuse("`group` does not divide the rows");
  weights->table = node.constant("table", Dtype::kFloat32, 2);
  const size_t entries = spec.weight == FERRULE_WEIGHT_LOOKUP4 ? 16 : 4;
  expect(node, "table", weights->table, {spec.group ? spec.rows / spec.group : 1, entries});
}

}  // namespace

Constant read_scales(const Node& node, size_t rows, size_t groups) {
  Constant scales = node.constant("scales", Dtype::kFloat32);
  if (groups == 1 && scales.shape().rank == 1)
    expect(node, "scales", scales, {rows});
  else
    expect(node, "scales", scales, {rows, groups});
  return scales;
}

ferrule_linear_weights Weights::pointers() const {
  ferrule_linear_weights pointers = {};
  if (spec.weight == FERRULE_WEIGHT_F32)
    pointers.values = weight.as<float>();
  else
    pointers.codes = weight.memory.get();
  pointers.scales = scales.as<float>();
  pointers.table = table.as<float>();
  pointers.bias = bias.as<float>();
  return pointers;
}

Weights read_weights(const Node& node, size_t rank) {
  Weights weights;
  weights.spec = read_spec(node);
  const ferrule_linear_spec& spec = weights.spec;
  const bool lookup = spec.weight == FERRULE_WEIGHT_LOOKUP4 || spec.weight == FERRULE_WEIGHT_LOOKUP2;
  if (rank != 2 && (lookup || spec.group)) node.refuse("it takes neither palettes nor groups of columns");
  read_weight(node, rank, &weights);
  if (is_affine(spec)) {
    const size_t groups = spec.group ? (spec.depth + spec.group - 1) / spec.group : 1;
    weights.scales = read_scales(node, spec.rows, groups);
  } else if (lookup) {
    if (node.has("scales")) weights.scales = read_scales(node, spec.rows, 1);
    read_table(node, &weights);
  }
  if (node.has("bias")) {
    weights.bias = node.constant("bias", Dtype::kFloat32, 1);
    expect(node, "bias", weights.bias, {spec.rows});
  }
  return weights;
}

namespace {

PackedWeights pack(const Node& node, const Weights& weights, size_t groups) {
  ferrule_linear_spec spec = weights.spec;
  if (spec.rows % groups != 0) node.refuse("`groups` does not divide the output channels");
  spec.rows /= groups;
  const ferrule_linear_weights pointers = weights.pointers();
  if (const char* kernel = ops::op_of(spec)) node.use_kernel(kernel);
  if (spec.input != FERRULE_INPUT_F32) node.use_kernel("quantize_rows");
  PackedWeights packed;
  packed.rows = weights.spec.rows;
  packed.depth = spec.depth;
  require_packed(node, ferrule_conv_packed_size(&spec, groups, nullptr, &packed.bytes));
  packed.memory = node.reserve(packed.bytes);
  require_packed(node, ops::pack_layers(spec, groups, nullptr, pointers, ops::Sealing::kNone, node.pool(),
                                        packed.memory.get()));
  return packed;
}

template <typename Make>
std::shared_ptr<const PackedWeights> share_packed(const Node& node, const std::string& kind,
                                                  const Make& make) {
  return node.share<PackedWeights>(kind,
                                   {"kind", "weight", "codes", "bits", "scales", "table", "bias", "group",
                                    "input", "input_scale", "input_zero"},
                                   make);
}

}  // namespace

std::shared_ptr<const PackedWeights> pack_weights(const Node& node, const Weights& weights, size_t groups) {
  return share_packed(node, "window " + std::to_string(groups), [&] { return pack(node, weights, groups); });
}

std::shared_ptr<const PackedWeights> pack_linear(const Node& node) {
  return share_packed(node, "linear", [&] { return pack(node, read_weights(node, 2), 1); });
}

}  // namespace ferrule::executor
