#include <algorithm>
#include <memory>

#include "choices.h"
#include "ferrule/conv.h"
#include "groups.h"
#include "memory.h"
#include "packing.h"
#include "window.h"

namespace ferrule::bindings {

namespace {

// `ferrule.runtime._C.PackedConv`.
class PackedConv {
 public:
  PackedConv(size_t height, size_t width, size_t groups, std::unique_ptr<Block> block);

  static std::unique_ptr<PackedConv> pack(const py::object& weight, const py::object& scales,
                                          const py::object& kind, const py::object& input,
                                          const py::object& table, const py::object& bias,
                                          const py::object& group, const py::object& sparse,
                                          const py::object& input_scale, const py::object& input_zero,
                                          const py::object& groups, const py::object& isa);
  py::object run(const py::object& input, const py::object& stride, const py::object& padding,
                 const py::object& dilation, const py::object& activation, const py::object& residual,
                 const py::object& output_scale, const py::object& output_zero, const py::object& out,
                 const py::object& pool) const;
  py::dict info() const;
  const char* isa() const { return info_.isa; }

 private:
  size_t in_channels() const { return info_.spec.depth / (height_ * width_) * groups_; }
  size_t out_channels() const { return info_.spec.rows * groups_; }
  Tensor read_images(const py::object& input) const;

  size_t height_, width_, groups_;
  std::unique_ptr<Block> block_;
  ferrule_linear_info info_;  // of one group
};

PackedConv::PackedConv(size_t height, size_t width, size_t groups, std::unique_ptr<Block> block)
    : height_(height), width_(width), groups_(groups), block_(std::move(block)) {
  const size_t bytes = block_->size() / groups;
  float palette_error = 0;
  for (size_t group = 0; group < groups; ++group) {
    require_ok(ferrule_linear_check(block_->data() + group * bytes, bytes, 0, &info_), "PackedConv.pack");
    palette_error = std::max(palette_error, info_.palette_error);
  }
  info_.palette_error = palette_error;
}

// Divides the output channels among the groups; palettes must not be shared by two of them.
void divide_rows(size_t groups, ferrule_linear_spec* spec) {
  if (spec->rows % groups != 0 || groups > std::max<size_t>(spec->rows, 1)) {
    refuse_value("groups", std::to_string(groups),
                 "a divisor of the output channels, " + std::to_string(spec->rows));
  }
  spec->rows /= groups;
  if (groups > 1 && is_lookup(*spec) && spec->group > 0 && spec->rows % spec->group != 0) {
    refuse_value("group", std::to_string(spec->group),
                 "a divisor of the output channels of each of the groups, " + std::to_string(spec->rows));
  }
}

std::unique_ptr<PackedConv> PackedConv::pack(const py::object& weight, const py::object& scales,
                                             const py::object& kind, const py::object& input,
                                             const py::object& table, const py::object& bias,
                                             const py::object& group, const py::object& sparse,
                                             const py::object& input_scale, const py::object& input_zero,
                                             const py::object& groups, const py::object& isa) {
  const auto count = static_cast<size_t>(require_integer(groups, "groups", 1, INT32_MAX));
  const Weights given = read_weights(
      weight, 4, count, {scales, kind, input, table, bias, group, sparse, input_scale, input_zero});
  const size_t height = given.weight.size(1), width = given.weight.size(2);
  if (height == 0 || width == 0)
    refuse_shape("weight", describe(given.weight.shape()), "a kernel of at least one tap");
  ferrule_linear_spec spec = given.spec;
  divide_rows(count, &spec);
  const ferrule_linear_weights weights = given.pointers();
  const std::string usable = require_isa(isa);
  size_t bytes = 0;
  require_ok(ferrule_conv_packed_size(&spec, count, usable.c_str(), &bytes), "PackedConv.pack");
  auto block = std::make_unique<Block>(bytes, "packed weights");
  ferrule_status status;
  {
    const py::gil_scoped_release release;
    status = ferrule_conv_pack(&spec, count, usable.c_str(), &weights, block->data());
  }
  require_ok(status, "PackedConv.pack");
  return std::make_unique<PackedConv>(height, width, count, std::move(block));
}

Tensor PackedConv::read_images(const py::object& input) const {
  const bool is_static = info_.spec.input == FERRULE_INPUT_I8_STATIC;
  Tensor x = is_static ? Tensor::read(input, "input", {Dtype::kFloat32, Dtype::kInt8, Dtype::kUint8})
                       : Tensor::read(input, "input", {Dtype::kFloat32});
  x.require_rank(4);
  x.require_shape({x.size(0), x.size(1), x.size(2), in_channels()}, "the channels of the layer");
  const bool quantizes = info_.spec.input != FERRULE_INPUT_F32 && x.dtype() == Dtype::kFloat32;
  if (quantizes && height_ * width_ > 1) x.require_contiguous();
  return x;
}

py::object PackedConv::run(const py::object& input, const py::object& stride, const py::object& padding,
                           const py::object& dilation, const py::object& activation,
                           const py::object& residual, const py::object& output_scale,
                           const py::object& output_zero, const py::object& out,
                           const py::object& pool) const {
  const Tensor x = read_images(input);
  ferrule_conv_args args = {};
  args.window = read_window(x, height_, width_, stride, padding, dilation);
  const Shape shape = output_shape(args.window, out_channels());
  args.epilogue.activation = require_activation(activation);
  read_requantization(output_scale, output_zero, &args.epilogue);
  const Tensor y = Tensor::output(out, "out", shape, output_scale.is_none() ? Dtype::kFloat32 : Dtype::kInt8);
  const auto r = read_optional(residual, "residual", {Dtype::kFloat32});
  if (r) r->require_shape(shape, "the result's");
  y.require_apart(x);
  if (r) y.require_apart(*r, true);

  args.packed = block_->data();
  args.packed_bytes = block_->size();
  args.groups = groups_;
  args.input = x.data<void>();
  args.input_kind = x.dtype() == Dtype::kFloat32 ? FERRULE_GEMM_F32
                    : x.dtype() == Dtype::kInt8  ? FERRULE_GEMM_S8
                                                 : FERRULE_GEMM_U8;
  args.output = y.data<void>();
  args.input_stride = x.rows().stride;
  args.output_stride = y.rows().stride;
  args.in_channels = in_channels();
  args.epilogue.residual = data_of<float>(r);
  args.epilogue.residual_stride = r ? r->rows().stride : 0;
  bindings::run("PackedConv.run", pool, [&](ferrule_pool* threads) {
    const size_t bytes = ferrule_conv_scratch(&args, ferrule_pool_threads(threads));
    return ferrule_conv(&args, take_scratch(bytes), threads);
  });
  return y.object();
}

py::dict PackedConv::info() const {
  py::dict told = tell(info_);
  told["rows"] = out_channels();
  told["bytes"] = block_->size();
  told["groups"] = groups_;
  told["kernel"] = py::make_tuple(height_, width_);
  return told;
}

}  // namespace

void bind_packed_conv(py::module_& module) {
  const py::object none = py::none();
  py::class_<PackedConv>(module, "PackedConv", "A convolution with packed weights.")
      .def_static("pack", &PackedConv::pack, "Packs codes and scales for an instruction set.",
                  py::arg("weight"), py::arg("scales") = none, py::kw_only(), py::arg("kind") = "float32",
                  py::arg("input") = "float32", py::arg("table") = none, py::arg("bias") = none,
                  py::arg("group") = 0, py::arg("sparse24") = false, py::arg("input_scale") = none,
                  py::arg("input_zero") = 0, py::arg("groups") = 1, py::arg("isa") = none)
      .def("run", &PackedConv::run, "Convolves images.", py::arg("input"), py::kw_only(),
           py::arg("stride") = 1, py::arg("padding") = 0, py::arg("dilation") = 1,
           py::arg("activation") = none, py::arg("residual") = none, py::arg("output_scale") = none,
           py::arg("output_zero") = 0, py::arg("out") = none, py::arg("pool") = none)
      .def_property_readonly("info", &PackedConv::info, "What the packed layer says of itself.")
      .def_property_readonly("isa", &PackedConv::isa, "The instruction set whose kernel reads it.");
}

}  // namespace ferrule::bindings
