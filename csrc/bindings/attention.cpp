#include "ferrule/attention.h"

#include <cmath>

#include "arguments.h"
#include "ferrule/quantize_kv.h"
#include "groups.h"
#include "memory.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

// Keys or values as they are kept: one tensor of floats, or codes with scales and offsets.
struct Cache {
  Tensor data;
  std::optional<Tensor> scales, offsets;
  ferrule_kv_kind kind;
  size_t group;
};

size_t code_bytes(int kind, size_t head_size) {
  const size_t per_byte = kind == FERRULE_KV_I8 ? 1 : kind == FERRULE_KV_I4 ? 2 : 4;
  return head_size / per_byte + (head_size % per_byte != 0);
}

size_t count_groups(size_t head_size, size_t group) { return group ? (head_size + group - 1) / group : 1; }

ferrule_kv_kind require_bits(const py::object& bits, const char* name) {
  switch (require_integer(bits, name, 0, 8)) {
    case 8:
      return FERRULE_KV_I8;
    case 4:
      return FERRULE_KV_I4;
    case 2:
      return FERRULE_KV_I2;
    default:
      refuse_value(name, py::str(bits), "8, 4 or 2");
  }
}

Dtype dtype_of(int kind) { return kind == FERRULE_KV_I8 ? Dtype::kInt8 : Dtype::kUint8; }

size_t require_group(const py::object& group, const char* name) {
  const auto size = static_cast<size_t>(require_integer(group, name, 0, INT32_MAX));
  if (size % 16 != 0) refuse_value(name, std::to_string(size), "a multiple of 16, or 0 for the whole head");
  return size;
}

Cache read_cache(const py::object& value, const char* name, size_t head_size) {
  if (!py::isinstance<py::tuple>(value)) {
    Tensor data = Tensor::read(value, name, {Dtype::kFloat32});
    data.require_rank(4);
    data.require_shape({data.size(0), data.size(1), data.size(2), head_size}, "the head size of queries");
    return {std::move(data), std::nullopt, std::nullopt, FERRULE_KV_F32, 0};
  }
  const auto parts = py::reinterpret_borrow<py::tuple>(value);
  if (parts.size() != 5) {
    refuse_shape(name, std::to_string(parts.size()) + " items",
                 "(codes, scales, offsets, bits, group) as quantize_kv gives them");
  }
  const ferrule_kv_kind kind = require_bits(parts[3], name);
  const size_t group = require_group(parts[4], name);
  Tensor codes = Tensor::read(parts[0], name, {dtype_of(kind)});
  codes.require_rank(4);
  Shape shape = {codes.size(0), codes.size(1), codes.size(2), code_bytes(kind, head_size)};
  codes.require_shape(shape, "the head size of queries, packed");
  shape[3] = count_groups(head_size, group);
  auto scales = read_optional(parts[1], name, {Dtype::kFloat32});
  auto offsets = read_optional(parts[2], name, {Dtype::kFloat32});
  if (!scales || (!offsets && kind != FERRULE_KV_I8)) {
    refuse_value(name, "None", "scales, and offsets where codes have fewer than 8 bits");
  }
  scales->require_shape(shape, "a scale for each token and group");
  if (offsets) {
    offsets->require_shape(shape, "that of the scales");
    for (size_t axis = 0; axis < 3; ++axis) {
      if (offsets->stride(axis) != scales->stride(axis)) {
        refuse_layout(name, "offsets of other strides than the scales'", "both laid out alike");
      }
    }
  }
  return {std::move(codes), std::move(scales), std::move(offsets), kind, group};
}

ferrule_kv describe_cache(const Cache& cache) {
  ferrule_kv kv = {};
  kv.kind = cache.kind;
  kv.data = cache.data.data<void>();
  kv.batch_stride = cache.data.stride(0);
  kv.head_stride = cache.data.stride(1);
  kv.token_stride = cache.data.stride(2);
  kv.scales = data_of<float>(cache.scales);
  kv.offsets = data_of<float>(cache.offsets);
  if (cache.scales) {
    kv.scale_batch_stride = cache.scales->stride(0);
    kv.scale_head_stride = cache.scales->stride(1);
    kv.scale_token_stride = cache.scales->stride(2);
  }
  kv.group = cache.group;
  return kv;
}

py::object attention(const py::object& queries, const py::object& keys, const py::object& values,
                     const py::object& scale, const py::object& causal, const py::object& bias,
                     const py::object& slopes, const py::object& sizes, const py::object& key_begins,
                     const py::object& key_ends, const py::object& out, const py::object& log_sums,
                     const py::object& pool, const py::object& isa) {
  const Tensor q = Tensor::read(queries, "queries", {Dtype::kFloat32});
  q.require_rank(4);
  const size_t batch = q.size(0), heads = q.size(1), query_count = q.size(2), head_size = q.size(3);
  const Cache k = read_cache(keys, "keys", head_size), v = read_cache(values, "values", head_size);
  const size_t kv_heads = k.data.size(1), key_count = k.data.size(2);
  if (k.data.size(0) != batch || kv_heads == 0 || heads % kv_heads != 0) {
    refuse_shape("keys", describe(k.data.shape()), "the batch of queries, and heads that divide theirs");
  }
  if (v.data.size(0) != batch || v.data.size(1) != kv_heads || v.data.size(2) != key_count) {
    refuse_shape("values", describe(v.data.shape()), "batch, heads and tokens of keys");
  }
  const auto b = read_optional(bias, "bias", {Dtype::kFloat32}, Layout::kStrided);
  if (b) b->require_shape({batch, heads, query_count, key_count}, "a logit each; broadcast views will do");
  const auto slope = read_optional(slopes, "slopes", {Dtype::kFloat32});
  if (slope) slope->require_shape({heads}, "the heads of queries");
  const auto size = read_optional(sizes, "sizes", {Dtype::kFloat32});
  if (size) size->require_shape({batch, key_count}, "batch and tokens of keys").require_contiguous();
  const auto begins = read_optional(key_begins, "key_begins", {Dtype::kInt32});
  const auto ends = read_optional(key_ends, "key_ends", {Dtype::kInt32});
  for (const auto* each : {&begins, &ends}) {
    if (*each) (*each)->require_shape({batch}, "the batch of queries");
  }
  const Tensor y = Tensor::output(out, "out", q.shape(), Dtype::kFloat32);
  std::optional<Tensor> sums;
  if (!log_sums.is_none()) {
    sums = Tensor::output(log_sums, "log_sums", {batch, heads, query_count}, Dtype::kFloat32);
    sums->require_contiguous().require_apart(q).require_apart(k.data).require_apart(v.data);
    sums->require_apart_from_all(
        {&b, &slope, &size, &begins, &ends, &k.scales, &k.offsets, &v.scales, &v.offsets});
  }
  y.require_apart(q).require_apart(k.data).require_apart(v.data);
  y.require_apart_from_all(
      {&b, &slope, &size, &begins, &ends, &sums, &k.scales, &k.offsets, &v.scales, &v.offsets});

  ferrule_attention_args args = {};
  args.queries = q.data<float>();
  args.output = y.data<float>();
  args.log_sums = data_of<float>(sums);
  args.query_batch_stride = q.stride(0);
  args.query_head_stride = q.stride(1);
  args.query_stride = q.stride(2);
  args.output_batch_stride = y.stride(0);
  args.output_head_stride = y.stride(1);
  args.output_stride = y.stride(2);
  args.keys = describe_cache(k);
  args.values = describe_cache(v);
  args.bias = data_of<float>(b);
  if (b) {
    args.bias_batch_stride = b->stride(0);
    args.bias_head_stride = b->stride(1);
    args.bias_query_stride = b->stride(2);
    args.bias_key_stride = b->stride(3);
  }
  args.slopes = data_of<float>(slope);
  args.sizes = data_of<float>(size);
  args.key_begins = data_of<int32_t>(begins);
  args.key_ends = data_of<int32_t>(ends);
  args.batch = batch;
  args.query_heads = heads;
  args.kv_heads = kv_heads;
  args.query_count = query_count;
  args.key_count = key_count;
  args.head_size = head_size;
  args.scale = scale.is_none()
                   ? static_cast<float>(1 / std::sqrt(static_cast<double>(head_size ? head_size : 1)))
                   : require_number(scale, "scale");
  args.causal = require_bool(causal, "causal");
  const std::string usable = require_isa(isa);
  run("attention", pool, [&](ferrule_pool* threads) {
    const size_t bytes = ferrule_attention_scratch(&args, ferrule_pool_threads(threads));
    return ferrule_attention(&args, usable.c_str(), threads, take_scratch(bytes), bytes);
  });
  return y.object();
}

py::tuple quantize_kv(const py::object& input, const py::object& bits, const py::object& group,
                      const py::object& symmetric, const py::object& clip, const py::object& out,
                      const py::object& scales, const py::object& offsets, const py::object& pool,
                      const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  x.require_rank(4);
  ferrule_quantize_kv_args args = {};
  args.kind = require_bits(bits, "bits");
  args.group = require_group(group, "group");
  const bool is_symmetric = require_bool(symmetric, "symmetric");
  if (is_symmetric && args.kind != FERRULE_KV_I8) refuse_value("symmetric", "True", "False below 8 bits");
  args.clip = require_number(clip, "clip");
  if (args.clip <= 0 || args.clip > 1) refuse_value("clip", py::str(clip), "above 0, at most 1");
  Shape shape = x.shape();
  shape[3] = code_bytes(args.kind, x.size(3));
  const Tensor codes = Tensor::output(out, "out", shape, dtype_of(args.kind));
  shape[3] = count_groups(x.size(3), args.group);
  const Tensor s = Tensor::output(scales, "scales", shape, Dtype::kFloat32);
  std::optional<Tensor> o;
  if (!is_symmetric) o = Tensor::output(offsets, "offsets", shape, Dtype::kFloat32);
  codes.require_apart(x).require_apart(s).require_apart_from_all({&o});
  s.require_apart(x).require_apart_from_all({&o});
  if (o) {
    o->require_apart(x);
    for (size_t axis = 0; axis < 3; ++axis) {
      if (o->stride(axis) != s.stride(axis)) {
        refuse_layout("offsets", "other strides than the scales'", "both laid out alike");
      }
    }
  }
  args.input = x.data<float>();
  args.input_batch_stride = x.stride(0);
  args.input_head_stride = x.stride(1);
  args.input_token_stride = x.stride(2);
  args.codes = codes.data<unsigned char>();
  args.code_batch_stride = codes.stride(0);
  args.code_head_stride = codes.stride(1);
  args.code_token_stride = codes.stride(2);
  args.scales = s.data<float>();
  args.offsets = data_of<float>(o);
  args.scale_batch_stride = s.stride(0);
  args.scale_head_stride = s.stride(1);
  args.scale_token_stride = s.stride(2);
  args.batch = x.size(0);
  args.heads = x.size(1);
  args.tokens = x.size(2);
  args.head_size = x.size(3);
  run("quantize_kv", &ferrule_quantize_kv, args, isa, pool);
  const py::object told = o ? o->object() : py::object(py::none());
  return py::make_tuple(codes.object(), s.object(), told, bits, args.group);
}

}  // namespace

void bind_attention(py::module_& module) {
  const py::object none = py::none();
  module.def("attention", &attention, "Attention of queries over keys and values.", py::arg("queries"),
             py::arg("keys"), py::arg("values"), py::kw_only(), py::arg("scale") = none,
             py::arg("causal") = false, py::arg("bias") = none, py::arg("slopes") = none,
             py::arg("sizes") = none, py::arg("key_begins") = none, py::arg("key_ends") = none,
             py::arg("out") = none, py::arg("log_sums") = none, py::arg("pool") = none,
             py::arg("isa") = none);
  module.def("quantize_kv", &quantize_kv, "Keys or values as codes.", py::arg("input"), py::kw_only(),
             py::arg("bits") = 8, py::arg("group") = 0, py::arg("symmetric") = false, py::arg("clip") = 1.0,
             py::arg("out") = none, py::arg("scales") = none, py::arg("offsets") = none,
             py::arg("pool") = none, py::arg("isa") = none);
}

}  // namespace ferrule::bindings
