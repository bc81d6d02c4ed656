#include "arguments.h"
#include "ferrule/layer_norm.h"
#include "ferrule/rms_norm.h"
#include "groups.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

// What both norms take: rows, a residual that is added first, and where the sum goes.
struct Stream {
  Tensor x;
  std::optional<Tensor> residual, weight;
  Tensor y;
  std::optional<Tensor> sum;
  Rows rows;
};

Stream read_stream(const py::object& input, const py::object& weight, const py::object& residual,
                   const py::object& out, const py::object& sum) {
  Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  const Rows rows = x.rows();
  auto w = read_optional(weight, "weight", {Dtype::kFloat32});
  if (w) w->require_shape({rows.width}, "the last axis of input");
  auto r = read_optional(residual, "residual", {Dtype::kFloat32});
  if (r) r->require_shape(x.shape(), "that of input");
  Tensor y = Tensor::output(out, "out", x.shape(), Dtype::kFloat32);
  std::optional<Tensor> s;
  if (!sum.is_none()) s = Tensor::output(sum, "sum", x.shape(), Dtype::kFloat32);
  y.require_apart(x, true).require_apart_from_all({&w, &r, &s});
  if (s) {
    s->require_apart(x).require_apart_from_all({&w});
    if (r) s->require_apart(*r, true);
  }
  return {std::move(x), std::move(r), std::move(w), std::move(y), std::move(s), rows};
}

template <typename Args>
void fill(const Stream& stream, const py::object& epsilon, Args* args) {
  args->input = stream.x.template data<float>();
  args->residual = data_of<float>(stream.residual);
  args->weight = data_of<float>(stream.weight);
  args->output = stream.y.template data<float>();
  args->sum = data_of<float>(stream.sum);
  args->input_stride = stream.rows.stride;
  args->residual_stride = stream.residual ? stream.residual->rows().stride : 0;
  args->output_stride = stream.y.rows().stride;
  args->sum_stride = stream.sum ? stream.sum->rows().stride : 0;
  args->rows = stream.rows.count;
  args->width = stream.rows.width;
  args->epsilon = require_number_from(epsilon, "epsilon", 0);
}

py::object layer_norm(const py::object& input, const py::object& weight, const py::object& bias,
                      const py::object& residual, const py::object& epsilon, const py::object& out,
                      const py::object& sum, const py::object& pool, const py::object& isa) {
  const Stream stream = read_stream(input, weight, residual, out, sum);
  const auto b = read_optional(bias, "bias", {Dtype::kFloat32});
  if (b) b->require_shape({stream.rows.width}, "the last axis of input");
  stream.y.require_apart_from_all({&b});
  if (stream.sum) stream.sum->require_apart_from_all({&b});
  ferrule_layer_norm_args args = {};
  fill(stream, epsilon, &args);
  args.bias = data_of<float>(b);
  run("layer_norm", &ferrule_layer_norm, args, isa, pool);
  return stream.y.object();
}

py::object rms_norm(const py::object& input, const py::object& weight, const py::object& residual,
                    const py::object& epsilon, const py::object& out, const py::object& sum,
                    const py::object& pool, const py::object& isa) {
  const Stream stream = read_stream(input, weight, residual, out, sum);
  ferrule_rms_norm_args args = {};
  fill(stream, epsilon, &args);
  run("rms_norm", &ferrule_rms_norm, args, isa, pool);
  return stream.y.object();
}

}  // namespace

void bind_norms(py::module_& module) {
  const py::object none = py::none();
  module.def("layer_norm", &layer_norm, "Layer norm along the last axis.", py::arg("input"),
             py::arg("weight") = none, py::arg("bias") = none, py::kw_only(), py::arg("residual") = none,
             py::arg("epsilon") = 1e-5, py::arg("out") = none, py::arg("sum") = none, py::arg("pool") = none,
             py::arg("isa") = none);
  module.def("rms_norm", &rms_norm, "Root mean square norm along the last axis.", py::arg("input"),
             py::arg("weight") = none, py::kw_only(), py::arg("residual") = none, py::arg("epsilon") = 1e-5,
             py::arg("out") = none, py::arg("sum") = none, py::arg("pool") = none, py::arg("isa") = none);
}

}  // namespace ferrule::bindings
