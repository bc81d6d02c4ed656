#include "packing.h"

#include "arguments.h"

namespace ferrule::bindings {

namespace {

struct Word {
  const char* name;
  int value;
};
constexpr Word kWeights[] = {{"float32", FERRULE_WEIGHT_F32},
                             {"affine8", FERRULE_WEIGHT_AFFINE8},
                             {"affine4", FERRULE_WEIGHT_AFFINE4},
                             {"lookup4", FERRULE_WEIGHT_LOOKUP4},
                             {"lookup2", FERRULE_WEIGHT_LOOKUP2}};
constexpr Word kInputs[] = {{"float32", FERRULE_INPUT_F32},
                            {"dynamic8", FERRULE_INPUT_I8_DYNAMIC},
                            {"static8", FERRULE_INPUT_I8_STATIC}};

template <size_t N>
int find_word(const Word (&words)[N], const py::object& value, const char* name) {
  std::string allowed;
  for (const Word& word : words) allowed += (allowed.empty() ? "" : ", ") + std::string(word.name);
  if (!py::isinstance<py::str>(value)) refuse_type(name, describe(value), allowed);
  const auto found = value.cast<std::string>();
  for (const Word& word : words) {
    if (found == word.name) return word.value;
  }
  refuse_value(name, "'" + found + "'", allowed);
}

ferrule_linear_spec read_spec(const Codec& codec) {
  ferrule_linear_spec spec = {};
  spec.weight = static_cast<ferrule_weight_kind>(find_word(kWeights, codec.kind, "kind"));
  spec.input = static_cast<ferrule_input_kind>(find_word(kInputs, codec.input, "input"));
  spec.group = static_cast<size_t>(require_integer(codec.group, "group", 0, INT32_MAX));
  spec.sparse24 = require_bool(codec.sparse, "sparse24");
  const bool is_static = spec.input == FERRULE_INPUT_I8_STATIC;
  if (is_static == codec.input_scale.is_none()) {
    refuse_value("input_scale", is_static ? "None" : "a number",
                 "a number with input=\"static8\", else None");
  }
  if (is_static) spec.input_scale = require_number(codec.input_scale, "input_scale");
  spec.input_zero = static_cast<int32_t>(require_integer(codec.input_zero, "input_zero", -128, 127));
  return spec;
}

std::optional<Tensor> read_scales(const py::object& scales, const ferrule_linear_spec& spec) {
  const bool floats = spec.weight == FERRULE_WEIGHT_F32, lookup = is_lookup(spec);
  auto s = read_optional(scales, "scales", {Dtype::kFloat32});
  if (floats == s.has_value() && !lookup) {
    refuse_value("scales", floats ? "a tensor" : "None", "a tensor with coded weights, None with float32");
  }
  if (!s) return s;
  const bool grouped = spec.group > 0 && !lookup;
  const size_t groups = grouped ? (spec.depth + spec.group - 1) / spec.group : 1;
  const Shape shape = grouped ? Shape{spec.rows, groups} : Shape{spec.rows};
  s->require_shape(shape, grouped ? "a scale for each group of each row" : "a scale for each row of weight");
  s->require_contiguous();
  return s;
}

std::optional<Tensor> read_table(const py::object& table, size_t groups, const ferrule_linear_spec& spec) {
  const bool lookup = is_lookup(spec);
  auto t = read_optional(table, "table", {Dtype::kFloat32});
  if (lookup != t.has_value()) {
    refuse_value("table", lookup ? "None" : "a tensor", "a tensor with lookup4 and lookup2, else None");
  }
  if (!t) return t;
  const size_t palettes = spec.group ? (spec.rows + spec.group - 1) / spec.group : groups;
  const size_t entries = spec.weight == FERRULE_WEIGHT_LOOKUP4 ? 16 : 4;
  t->require_shape({palettes, entries}, "the entries of each palette").require_contiguous();
  return t;
}

Tensor read_weight(const py::object& weight, size_t rank, ferrule_linear_spec* spec) {
  const Dtype dtype = spec->weight == FERRULE_WEIGHT_F32 ? Dtype::kFloat32
                      : is_lookup(*spec)                 ? Dtype::kUint8
                                                         : Dtype::kInt8;
  Tensor w = Tensor::read(weight, "weight", {dtype});
  w.require_rank(rank).require_contiguous();
  spec->rows = w.size(0);
  spec->depth = 1;
  for (size_t axis = 1; axis < rank; ++axis) {
    if (__builtin_mul_overflow(spec->depth, w.size(axis), &spec->depth))
      refuse_size("weight", describe(w.shape()), "sizes whose product fits the memory");
  }
  return w;
}

}  // namespace

bool is_lookup(const ferrule_linear_spec& spec) {
  return spec.weight == FERRULE_WEIGHT_LOOKUP4 || spec.weight == FERRULE_WEIGHT_LOOKUP2;
}

Weights read_weights(const py::object& weight, size_t rank, size_t groups, const Codec& codec) {
  ferrule_linear_spec spec = read_spec(codec);
  Tensor w = read_weight(weight, rank, &spec);
  auto scales = read_scales(codec.scales, spec);
  auto table = read_table(codec.table, groups, spec);
  auto bias = read_optional(codec.bias, "bias", {Dtype::kFloat32});
  if (bias) bias->require_shape({spec.rows}, "the rows of weight").require_contiguous();
  return {spec, std::move(w), std::move(scales), std::move(table), std::move(bias)};
}

ferrule_linear_weights Weights::pointers() const {
  ferrule_linear_weights weights = {};
  if (spec.weight == FERRULE_WEIGHT_F32)
    weights.values = weight.data<float>();
  else
    weights.codes = weight.data<void>();
  weights.scales = data_of<float>(scales);
  weights.table = data_of<float>(table);
  weights.bias = data_of<float>(bias);
  return weights;
}

py::dict tell(const ferrule_linear_info& info) {
  py::dict told;
  told["kind"] = kWeights[info.spec.weight].name;
  told["input"] = kInputs[info.spec.input].name;
  told["sparse24"] = info.spec.sparse24 != 0;
  told["rows"] = info.spec.rows;
  told["depth"] = info.spec.depth;
  told["group"] = info.spec.group;
  told["input_scale"] = info.spec.input_scale;
  told["input_zero"] = info.spec.input_zero;
  told["op"] = info.op;
  told["isa"] = info.isa;
  told["bytes"] = info.bytes;
  told["palette_error"] = info.palette_error;
  return told;
}

}  // namespace ferrule::bindings
