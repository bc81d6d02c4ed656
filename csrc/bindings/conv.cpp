#include "choices.h"
#include "ferrule/conv_depthwise.h"
#include "groups.h"
#include "window.h"

namespace ferrule::bindings {

namespace {

py::object conv_depthwise(const py::object& input, const py::object& weight, const py::object& bias,
                          const py::object& stride, const py::object& padding, const py::object& dilation,
                          const py::object& activation, const py::object& residual, const py::object& out,
                          const py::object& pool, const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  const Tensor w = Tensor::read(weight, "weight", {Dtype::kFloat32});
  x.require_rank(4);
  w.require_rank(3).require_contiguous();
  const size_t channels = x.size(3);
  w.require_shape({w.size(0), w.size(1), channels}, "the channels of input");
  const auto b = read_optional(bias, "bias", {Dtype::kFloat32});
  if (b) b->require_shape({channels}, "the channels of input");

  ferrule_conv_depthwise_args args = {};
  args.window = read_window(x, w.size(0), w.size(1), stride, padding, dilation);
  const Shape shape = output_shape(args.window, channels);
  const auto r = read_optional(residual, "residual", {Dtype::kFloat32});
  if (r) r->require_shape(shape, "the result's");
  const Tensor y = Tensor::output(out, "out", shape, Dtype::kFloat32);
  y.require_apart(x).require_apart(w).require_apart_from_all({&b});
  if (r) y.require_apart(*r, true);

  args.input = x.data<float>();
  args.weight = w.data<float>();
  args.bias = data_of<float>(b);
  args.residual = data_of<float>(r);
  args.output = y.data<float>();
  args.input_stride = x.rows().stride;
  args.residual_stride = r ? r->rows().stride : 0;
  args.output_stride = y.rows().stride;
  args.channels = channels;
  args.activation = require_activation(activation);
  run("conv_depthwise", &ferrule_conv_depthwise, args, isa, pool);
  return y.object();
}

}  // namespace

void bind_conv(py::module_& module) {
  const py::object none = py::none();
  module.def("conv_depthwise", &conv_depthwise, "Convolution with a kernel for each channel.",
             py::arg("input"), py::arg("weight"), py::arg("bias") = none, py::kw_only(),
             py::arg("stride") = 1, py::arg("padding") = 0, py::arg("dilation") = 1,
             py::arg("activation") = none, py::arg("residual") = none, py::arg("out") = none,
             py::arg("pool") = none, py::arg("isa") = none);
}

}  // namespace ferrule::bindings
