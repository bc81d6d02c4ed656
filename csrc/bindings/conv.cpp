#include "choices.h"
#include "ferrule/conv_depthwise.h"
#include "ferrule/conv_depthwise_i8.h"
#include "groups.h"
#include "memory.h"
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

// `ferrule.runtime._C.PackedDepthwise`.
class PackedDepthwise {
 public:
  PackedDepthwise(const py::object& codes, const py::object& scales, const py::object& bias);
  py::object run(const py::object& input, const py::object& input_scale, const py::object& input_zero,
                 const py::object& stride, const py::object& padding, const py::object& dilation,
                 const py::object& activation, const py::object& residual, const py::object& output_scale,
                 const py::object& output_zero, const py::object& out, const py::object& pool,
                 const py::object& isa) const;

 private:
  size_t height_ = 0, width_ = 0, channels_ = 0;
  std::unique_ptr<Block> block_;
};

PackedDepthwise::PackedDepthwise(const py::object& codes, const py::object& scales, const py::object& bias) {
  const Tensor w = Tensor::read(codes, "codes", {Dtype::kInt8});
  w.require_rank(3).require_contiguous();
  height_ = w.size(0);
  width_ = w.size(1);
  channels_ = w.size(2);
  const Tensor s = Tensor::read(scales, "scales", {Dtype::kFloat32});
  s.require_shape({channels_}, "the channels of codes");
  const auto b = read_optional(bias, "bias", {Dtype::kFloat32});
  if (b) b->require_shape({channels_}, "the channels of codes");
  const size_t bytes = ferrule_conv_depthwise_i8_packed_bytes(height_, width_, channels_);
  if (bytes == 0) refuse_shape("codes", describe(w.shape()), "a kernel of at least one tap");
  block_ = std::make_unique<Block>(bytes, "packed weights");
  const ferrule_conv_depthwise_i8_weights weights = {w.data<int8_t>(), s.data<float>(), data_of<float>(b),
                                                     height_,          width_,          channels_};
  require_ok(ferrule_pack_conv_depthwise_i8(&weights, block_->data()), "PackedDepthwise");
}

py::object PackedDepthwise::run(const py::object& input, const py::object& input_scale,
                                const py::object& input_zero, const py::object& stride,
                                const py::object& padding, const py::object& dilation,
                                const py::object& activation, const py::object& residual,
                                const py::object& output_scale, const py::object& output_zero,
                                const py::object& out, const py::object& pool, const py::object& isa) const {
  const Tensor x = Tensor::read(input, "input", {Dtype::kUint8, Dtype::kInt8});
  x.require_rank(4);
  x.require_shape({x.size(0), x.size(1), x.size(2), channels_}, "the channels of the layer");
  ferrule_conv_depthwise_i8_args args = {};
  args.window = read_window(x, height_, width_, stride, padding, dilation);
  const Shape shape = output_shape(args.window, channels_);
  args.epilogue.activation = require_activation(activation);
  read_requantization(output_scale, output_zero, &args.epilogue);
  const Tensor y = Tensor::output(out, "out", shape, output_scale.is_none() ? Dtype::kFloat32 : Dtype::kInt8);
  const auto r = read_optional(residual, "residual", {Dtype::kFloat32});
  if (r) r->require_shape(shape, "the result's");
  y.require_apart(x);
  if (r) y.require_apart(*r, true);
  args.input = x.data<void>();
  args.input_is_signed = x.dtype() == Dtype::kInt8;
  args.input_scale = require_number(input_scale, "input_scale");
  args.input_zero = static_cast<int32_t>(require_integer(
      input_zero, "input_zero", args.input_is_signed ? -128 : 0, args.input_is_signed ? 127 : 255));
  args.packed = block_->data();
  args.output = y.data<void>();
  args.input_stride = x.rows().stride;
  args.output_stride = y.rows().stride;
  args.channels = channels_;
  args.epilogue.residual = data_of<float>(r);
  args.epilogue.residual_stride = r ? r->rows().stride : 0;
  const std::string usable = require_isa(isa);
  bindings::run("PackedDepthwise.run", pool, [&](ferrule_pool* threads) {
    const size_t bytes = ferrule_conv_depthwise_i8_scratch(&args.window),
                 count = ferrule_pool_threads(threads);
    if (bytes > PTRDIFF_MAX / count) return FERRULE_TOO_LARGE;
    return ferrule_conv_depthwise_i8(&args, usable.c_str(), take_scratch(bytes * count), threads);
  });
  return y.object();
}

}  // namespace

void bind_conv(py::module_& module) {
  const py::object none = py::none();
  py::class_<PackedDepthwise>(module, "PackedDepthwise", "A depthwise convolution of 8-bit codes.")
      .def(py::init<const py::object&, const py::object&, const py::object&>(), py::arg("codes"),
           py::arg("scales"), py::arg("bias") = none)
      .def("run", &PackedDepthwise::run, "Convolves images of codes.", py::arg("input"), py::kw_only(),
           py::arg("input_scale"), py::arg("input_zero") = 0, py::arg("stride") = 1, py::arg("padding") = 0,
           py::arg("dilation") = 1, py::arg("activation") = none, py::arg("residual") = none,
           py::arg("output_scale") = none, py::arg("output_zero") = 0, py::arg("out") = none,
           py::arg("pool") = none, py::arg("isa") = none);
  module.def("conv_depthwise", &conv_depthwise, "Convolution with a kernel for each channel.",
             py::arg("input"), py::arg("weight"), py::arg("bias") = none, py::kw_only(),
             py::arg("stride") = 1, py::arg("padding") = 0, py::arg("dilation") = 1,
             py::arg("activation") = none, py::arg("residual") = none, py::arg("out") = none,
             py::arg("pool") = none, py::arg("isa") = none);
}

}  // namespace ferrule::bindings
