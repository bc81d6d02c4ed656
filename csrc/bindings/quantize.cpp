#include "arguments.h"
#include "ferrule/quantize_rows.h"
#include "groups.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

py::tuple quantize_rows(const py::object& input, const py::object& is_signed, const py::object& scale,
                        const py::object& zero, const py::object& out, const py::object& scales,
                        const py::object& zeros, const py::object& pool, const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  const Rows rows = x.rows();
  ferrule_quantize_rows_args args = {};
  args.is_signed = require_bool(is_signed, "signed");
  if (!scale.is_none()) {
    args.range_scale = require_number(scale, "scale");
    if (args.range_scale <= 0) refuse_value("scale", py::str(scale), "above 0, or None");
  }
  args.range_zero = static_cast<int32_t>(require_integer(zero, "zero", -128, 127));
  const Tensor codes = Tensor::output(out, "out", x.shape(), args.is_signed ? Dtype::kInt8 : Dtype::kUint8);
  const Shape leading(x.shape().begin(), x.shape().end() - 1);
  const Tensor s = Tensor::output(scales, "scales", leading, Dtype::kFloat32);
  const Tensor z = Tensor::output(zeros, "zeros", leading, Dtype::kInt32);
  s.require_contiguous().require_apart(x).require_apart(codes).require_apart(z);
  z.require_contiguous().require_apart(x).require_apart(codes);
  codes.require_apart(x);

  args.input = x.data<float>();
  args.codes = codes.data<void>();
  args.scales = s.data<float>();
  args.zeros = z.data<int32_t>();
  args.input_stride = rows.stride;
  args.codes_stride = codes.rows().stride;
  args.rows = rows.count;
  args.width = args.padded = rows.width;
  run("quantize_rows", &ferrule_quantize_rows, args, isa, pool);
  return py::make_tuple(codes.object(), s.object(), z.object());
}

}  // namespace

void bind_quantize(py::module_& module) {
  const py::object none = py::none();
  module.def("quantize_rows", &quantize_rows, "Rows of float32 as 8-bit codes with scales and zero points.",
             py::arg("input"), py::kw_only(), py::arg("signed") = false, py::arg("scale") = none,
             py::arg("zero") = 0, py::arg("out") = none, py::arg("scales") = none, py::arg("zeros") = none,
             py::arg("pool") = none, py::arg("isa") = none);
}

}  // namespace ferrule::bindings
