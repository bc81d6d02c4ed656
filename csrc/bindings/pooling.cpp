#include "ferrule/pooling.h"

#include "arguments.h"
#include "ferrule/mean_tokens.h"
#include "ferrule/pooling_i8.h"
#include "groups.h"
#include "window.h"

namespace ferrule::bindings {

namespace {

constexpr size_t kMostTaps = 32768;  // of pooling_i8, whose sums stay exact

// Height and width of images, as the layout has them.
struct ImageSize {
  size_t batch, height, width;
};

struct Pooled {
  int kind;
  ferrule_window window;
  Padding padding;
};

Pooled read_pooled(const ImageSize& image, const py::object& kind, const py::object& kernel,
                   const py::object& stride, const py::object& padding, const py::object& dilation,
                   const py::object& ceil_mode) {
  Pooled pooled = {};
  pooled.kind =
      require_word(kind, "kind", {{"max", FERRULE_POOLING_MAX}, {"average", FERRULE_POOLING_AVERAGE}});
  pooled.padding = read_padding(padding);
  const std::vector<size_t> taps = require_sizes(kernel, "kernel", 2, 1);
  ferrule_window& w = pooled.window;
  w = read_steps(taps[0], taps[1], stride.is_none() ? kernel : stride, pooled.padding, dilation);
  if (pooled.kind == FERRULE_POOLING_AVERAGE && (w.dilation_height != 1 || w.dilation_width != 1))
    refuse_value("dilation", py::str(dilation), "1 for averages");
  const bool ceils = require_bool(ceil_mode, "ceil_mode");
  w.batch = image.batch;
  w.in_height = image.height;
  w.in_width = image.width;
  const Padding& pads = pooled.padding;
  w.out_height = ferrule_pooling_outputs(image.height, w.kernel_height, w.stride_height, w.dilation_height,
                                         pads.top, pads.bottom, ceils);
  w.out_width = ferrule_pooling_outputs(image.width, w.kernel_width, w.stride_width, w.dilation_width,
                                        pads.left, pads.right, ceils);
  require_outputs(w);
  return pooled;
}

template <typename Args>
void fill(const Pooled& pooled, const py::object& count_padding, size_t channels, Args* args) {
  args->kind = pooled.kind;
  args->count_padding = require_bool(count_padding, "count_padding");
  args->window = pooled.window;
  args->pad_bottom = pooled.padding.bottom;
  args->pad_right = pooled.padding.right;
  args->channels = channels;
}

py::object pooling(const py::object& input, const py::object& kind, const py::object& kernel,
                   const py::object& stride, const py::object& padding, const py::object& dilation,
                   const py::object& ceil_mode, const py::object& count_padding, const py::object& layout,
                   const py::object& out, const py::object& pool, const py::object& isa) {
  ferrule_pooling_args args = {};
  args.layout =
      require_word(layout, "layout",
                   {{"channels_last", FERRULE_CHANNELS_LAST}, {"channels_first", FERRULE_CHANNELS_FIRST}});
  const bool first = args.layout == FERRULE_CHANNELS_FIRST;
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  x.require_rank(4);
  if (first) x.require_contiguous();
  const size_t channels = x.size(first ? 1 : 3);
  const ImageSize image = {x.size(0), x.size(first ? 2 : 1), x.size(first ? 3 : 2)};
  fill(read_pooled(image, kind, kernel, stride, padding, dilation, ceil_mode), count_padding, channels,
       &args);
  const ferrule_window& w = args.window;
  const Shape shape = first ? Shape{w.batch, channels, w.out_height, w.out_width} : output_shape(w, channels);
  const Tensor y = Tensor::output(out, "out", shape, Dtype::kFloat32);
  if (first) y.require_contiguous();
  y.require_apart(x);
  args.input = x.data<float>();
  args.output = y.data<float>();
  args.input_stride = first ? 0 : x.rows().stride;
  args.output_stride = first ? 0 : y.rows().stride;
  run("pooling", &ferrule_pooling, args, isa, pool);
  return y.object();
}

py::object pooling_i8(const py::object& input, const py::object& kind, const py::object& kernel,
                      const py::object& stride, const py::object& padding, const py::object& dilation,
                      const py::object& ceil_mode, const py::object& count_padding,
                      const py::object& padding_code, const py::object& out, const py::object& pool,
                      const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kInt8});
  x.require_rank(4);
  const ImageSize image = {x.size(0), x.size(1), x.size(2)};
  ferrule_pooling_i8_args args = {};
  fill(read_pooled(image, kind, kernel, stride, padding, dilation, ceil_mode), count_padding, x.size(3),
       &args);
  args.padding_code = static_cast<int32_t>(require_integer(padding_code, "padding_code", -128, 127));
  const ferrule_window& w = args.window;
  if (w.kernel_height > kMostTaps / w.kernel_width) {
    refuse_size("kernel", describe({w.kernel_height, w.kernel_width}),
                "at most " + std::to_string(kMostTaps) + " taps");
  }
  const Tensor y = Tensor::output(out, "out", output_shape(w, args.channels), Dtype::kInt8);
  y.require_apart(x);
  args.input = x.data<int8_t>();
  args.output = y.data<int8_t>();
  args.input_stride = x.rows().stride;
  args.output_stride = y.rows().stride;
  run("pooling_i8", &ferrule_pooling_i8, args, isa, pool);
  return y.object();
}

py::object mean_tokens(const py::object& input, const py::object& mask, const py::object& normalize,
                       const py::object& out, const py::object& pool, const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  x.require_rank(3);
  const auto m = read_optional(mask, "mask", {Dtype::kBool, Dtype::kUint8});
  if (m) m->require_shape({x.size(0), x.size(1)}, "batch and tokens of input");
  const Tensor y = Tensor::output(out, "out", {x.size(0), x.size(2)}, Dtype::kFloat32);
  y.require_apart(x).require_apart_from_all({&m});
  ferrule_mean_tokens_args args = {};
  args.input = x.data<float>();
  args.mask = data_of<uint8_t>(m);
  args.output = y.data<float>();
  args.input_batch_stride = x.stride(0);
  args.input_token_stride = x.stride(1);
  args.mask_stride = m ? m->rows().stride : 0;
  args.output_stride = y.rows().stride;
  args.batch = x.size(0);
  args.tokens = x.size(1);
  args.width = x.size(2);
  args.normalize = require_bool(normalize, "normalize");
  run("mean_tokens", &ferrule_mean_tokens, args, isa, pool);
  return y.object();
}

}  // namespace

void bind_pooling(py::module_& module) {
  const py::object none = py::none();
  module.def("pooling", &pooling, "Maximum or average of windows.", py::arg("input"), py::arg("kind"),
             py::arg("kernel"), py::kw_only(), py::arg("stride") = none, py::arg("padding") = 0,
             py::arg("dilation") = 1, py::arg("ceil_mode") = false, py::arg("count_padding") = false,
             py::arg("layout") = "channels_last", py::arg("out") = none, py::arg("pool") = none,
             py::arg("isa") = none);
  module.def("pooling_i8", &pooling_i8, "Maximum or average of windows of codes.", py::arg("input"),
             py::arg("kind"), py::arg("kernel"), py::kw_only(), py::arg("stride") = none,
             py::arg("padding") = 0, py::arg("dilation") = 1, py::arg("ceil_mode") = false,
             py::arg("count_padding") = false, py::arg("padding_code") = 0, py::arg("out") = none,
             py::arg("pool") = none, py::arg("isa") = none);
  module.def("mean_tokens", &mean_tokens, "Mean of the tokens that a mask keeps.", py::arg("input"),
             py::arg("mask") = none, py::kw_only(), py::arg("normalize") = false, py::arg("out") = none,
             py::arg("pool") = none, py::arg("isa") = none);
}

}  // namespace ferrule::bindings
