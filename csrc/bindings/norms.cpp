#include "arguments.h"
#include "ferrule/layer_norm.h"
#include "groups.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

py::object layer_norm(const py::object& input, const py::object& weight, const py::object& bias,
                      const py::object& residual, const py::object& epsilon, const py::object& out,
                      const py::object& sum, const py::object& pool, const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  const Rows rows = x.rows();
  const auto w = read_optional(weight, "weight", {Dtype::kFloat32});
  const auto b = read_optional(bias, "bias", {Dtype::kFloat32});
  const auto r = read_optional(residual, "residual", {Dtype::kFloat32});
  if (w) w->require_shape({rows.width}, "the last axis of input");
  if (b) b->require_shape({rows.width}, "the last axis of input");
  if (r) r->require_shape(x.shape(), "that of input");
  const Tensor y = Tensor::output(out, "out", x.shape(), Dtype::kFloat32);
  std::optional<Tensor> s;
  if (!sum.is_none()) s = Tensor::output(sum, "sum", x.shape(), Dtype::kFloat32);
  y.require_apart(x, true).require_apart_from_all({&w, &b, &r, &s});
  if (s) {
    s->require_apart(x).require_apart_from_all({&w, &b});
    if (r) s->require_apart(*r, true);
  }

  ferrule_layer_norm_args args = {};
  args.input = x.data<float>();
  args.residual = data_of<float>(r);
  args.weight = data_of<float>(w);
  args.bias = data_of<float>(b);
  args.output = y.data<float>();
  args.sum = data_of<float>(s);
  args.input_stride = rows.stride;
  args.residual_stride = r ? r->rows().stride : 0;
  args.output_stride = y.rows().stride;
  args.sum_stride = s ? s->rows().stride : 0;
  args.rows = rows.count;
  args.width = rows.width;
  args.epsilon = require_number_from(epsilon, "epsilon", 0);
  run("layer_norm", &ferrule_layer_norm, args, isa, pool);
  return y.object();
}

}  // namespace

void bind_norms(py::module_& module) {
  module.def("layer_norm", &layer_norm, "Layer norm along the last axis.", py::arg("input"),
             py::arg("weight") = py::none(), py::arg("bias") = py::none(), py::kw_only(),
             py::arg("residual") = py::none(), py::arg("epsilon") = 1e-5, py::arg("out") = py::none(),
             py::arg("sum") = py::none(), py::arg("pool") = py::none(), py::arg("isa") = py::none());
}

}  // namespace ferrule::bindings
