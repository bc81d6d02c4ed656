#include "arguments.h"
#include "ferrule/activate.h"
#include "ferrule/softmax.h"
#include "groups.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

py::object activate(const py::object& input, const py::object& kind, const py::object& factor,
                    const py::object& out, const py::object& pool, const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  const Rows rows = x.rows();
  ferrule_activate_args args = {};
  args.kind = require_word(kind, "kind",
                           {{"relu", FERRULE_ACTIVATE_RELU},
                            {"relu6", FERRULE_ACTIVATE_RELU6},
                            {"hard_swish", FERRULE_ACTIVATE_HARD_SWISH},
                            {"gelu", FERRULE_ACTIVATE_GELU},
                            {"gelu_tanh", FERRULE_ACTIVATE_GELU_TANH},
                            {"silu", FERRULE_ACTIVATE_SILU},
                            {"sigmoid", FERRULE_ACTIVATE_SIGMOID},
                            {"tanh", FERRULE_ACTIVATE_TANH},
                            {"exp", FERRULE_ACTIVATE_EXP}});
  const auto f = read_optional(factor, "factor", {Dtype::kFloat32});
  if (f) f->require_shape(x.shape(), "that of input");
  const Tensor y = Tensor::output(out, "out", x.shape(), Dtype::kFloat32);
  y.require_apart(x, true);
  if (f) y.require_apart(*f, true);
  args.input = x.data<float>();
  args.factor = data_of<float>(f);
  args.output = y.data<float>();
  args.input_stride = rows.stride;
  args.factor_stride = f ? f->rows().stride : 0;
  args.output_stride = y.rows().stride;
  args.rows = rows.count;
  args.width = rows.width;
  run("activate", &ferrule_activate, args, isa, pool);
  return y.object();
}

py::object softmax(const py::object& input, const py::object& mask, const py::object& scale,
                   const py::object& logarithm, const py::object& out, const py::object& pool,
                   const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  const Rows rows = x.rows();
  const auto m = read_optional(mask, "mask", {Dtype::kFloat32});
  const bool shared = m && m->rank() == 1 && x.rank() != 1;
  if (m) m->require_shape(shared ? Shape{rows.width} : x.shape(), "that of input, or its last axis alone");
  const Tensor y = Tensor::output(out, "out", x.shape(), Dtype::kFloat32);
  y.require_apart(x, true).require_apart_from_all({&m});
  ferrule_softmax_args args = {};
  args.input = x.data<float>();
  args.mask = data_of<float>(m);
  args.output = y.data<float>();
  args.input_stride = rows.stride;
  args.mask_stride = m && !shared ? m->rows().stride : 0;
  args.output_stride = y.rows().stride;
  args.rows = rows.count;
  args.width = rows.width;
  args.scale = require_number(scale, "scale");
  if (args.scale <= 0) refuse_value("scale", py::str(scale), "above 0");
  args.logarithm = require_bool(logarithm, "logarithm");
  run("softmax", &ferrule_softmax, args, isa, pool);
  return y.object();
}

}  // namespace

void bind_elementwise(py::module_& module) {
  const py::object none = py::none();
  module.def("activate", &activate, "An activation of each element.", py::arg("input"), py::arg("kind"),
             py::kw_only(), py::arg("factor") = none, py::arg("out") = none, py::arg("pool") = none,
             py::arg("isa") = none);
  module.def("softmax", &softmax, "Softmax along the last axis.", py::arg("input"), py::kw_only(),
             py::arg("mask") = none, py::arg("scale") = 1.0, py::arg("logarithm") = false,
             py::arg("out") = none, py::arg("pool") = none, py::arg("isa") = none);
}

}  // namespace ferrule::bindings
