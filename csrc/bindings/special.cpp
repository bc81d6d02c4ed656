#include <cmath>

#include "arguments.h"
#include "ferrule/hadamard.h"
#include "ferrule/rational.h"
#include "ferrule/selective_scan.h"
#include "groups.h"
#include "memory.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

py::object hadamard(const py::object& input, const py::object& scale, const py::object& transposed,
                    const py::object& out, const py::object& pool, const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  const Rows rows = x.rows();
  if (rows.width && ferrule_hadamard_order(rows.width) == 0) {
    refuse_shape("input", describe(x.shape()),
                 "a last axis of 1, 12, 20, 28, 36 or 60 times a power of two, at most 2^24");
  }
  const Tensor y = Tensor::output(out, "out", x.shape(), Dtype::kFloat32);
  y.require_apart(x, true);
  ferrule_hadamard_args args = {};
  args.input = x.data<float>();
  args.output = y.data<float>();
  args.input_stride = rows.stride;
  args.output_stride = y.rows().stride;
  args.rows = rows.width ? rows.count : 0;
  args.width = rows.width;
  args.scale = scale.is_none()
                   ? static_cast<float>(1 / std::sqrt(static_cast<double>(rows.width ? rows.width : 1)))
                   : require_number(scale, "scale");
  args.transposed = require_bool(transposed, "transposed");
  if (args.rows) run("hadamard", &ferrule_hadamard, args, isa, pool);
  return y.object();
}

py::object rational(const py::object& input, const py::object& numerator, const py::object& denominator,
                    const py::object& form, const py::object& out, const py::object& pool,
                    const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  const Rows rows = x.rows();
  const Tensor above = Tensor::read(numerator, "numerator", {Dtype::kFloat32});
  const Tensor below = Tensor::read(denominator, "denominator", {Dtype::kFloat32});
  above.require_rank(2).require_contiguous();
  below.require_contiguous();
  const size_t groups = above.size(0);
  above.require_shape({groups, FERRULE_RATIONAL_NUMERATOR}, "a0 to a5 of each group");
  below.require_shape({groups, FERRULE_RATIONAL_DENOMINATOR}, "b1 to b4 of each group");
  if (groups == 0 || rows.width % groups != 0) {
    refuse_shape("numerator", std::to_string(groups) + " groups",
                 "a number that divides the last axis of input");
  }
  const Tensor y = Tensor::output(out, "out", x.shape(), Dtype::kFloat32);
  y.require_apart(x, true).require_apart(above).require_apart(below);
  ferrule_rational_args args = {};
  args.form = require_word(form, "form", {{"terms", FERRULE_RATIONAL_TERMS}, {"sum", FERRULE_RATIONAL_SUM}});
  args.input = x.data<float>();
  args.numerator = above.data<float>();
  args.denominator = below.data<float>();
  args.output = y.data<float>();
  args.input_stride = rows.stride;
  args.output_stride = y.rows().stride;
  args.numerator_stride = FERRULE_RATIONAL_NUMERATOR;
  args.denominator_stride = FERRULE_RATIONAL_DENOMINATOR;
  args.rows = rows.count;
  args.width = rows.width;
  args.groups = groups;
  run("rational", &ferrule_rational, args, isa, pool);
  return y.object();
}

ferrule_scan_strides strides_of(const Tensor& tensor) {
  return {tensor.stride(0), tensor.stride(1), tensor.stride(2)};
}

// (batch, length, states) shared by all channels, or (batch, length, groups, states).
ferrule_scan_group_strides group_strides_of(const Tensor& tensor) {
  if (tensor.rank() == 3) return {tensor.stride(0), 0, tensor.stride(1), tensor.stride(2)};
  return {tensor.stride(0), tensor.stride(2), tensor.stride(1), tensor.stride(3)};
}

py::object selective_scan(const py::object& input, const py::object& delta, const py::object& a,
                          const py::object& b, const py::object& c, const py::object& delta_bias,
                          const py::object& skip, const py::object& gate, const py::object& initial_state,
                          const py::object& final_state, const py::object& softplus, const py::object& out,
                          const py::object& pool, const py::object& isa) {
  constexpr Layout kAny = Layout::kStrided;
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32}, kAny);
  x.require_rank(3);
  const size_t batch = x.size(0), length = x.size(1), channels = x.size(2);
  const Tensor d = Tensor::read(delta, "delta", {Dtype::kFloat32}, kAny);
  d.require_shape(x.shape(), "that of input");
  const Tensor decay = Tensor::read(a, "a", {Dtype::kFloat32});
  decay.require_rank(2).require_contiguous();
  const size_t states = decay.size(1);
  decay.require_shape({channels, states}, "the channels of input and the states");
  const Tensor in = Tensor::read(b, "b", {Dtype::kFloat32}, kAny);
  const size_t groups = in.rank() == 4 ? in.size(2) : 1;
  in.require_shape(in.rank() == 4 ? Shape{batch, length, groups, states} : Shape{batch, length, states},
                   "batch and length of input, groups, and the states of a");
  if (groups == 0 || channels % groups != 0) {
    refuse_shape("b", std::to_string(groups) + " groups", "a number that divides the channels of input");
  }
  const Tensor to = Tensor::read(c, "c", {Dtype::kFloat32}, kAny);
  to.require_shape(in.shape(), "that of b");
  const auto bias = read_optional(delta_bias, "delta_bias", {Dtype::kFloat32});
  const auto direct = read_optional(skip, "skip", {Dtype::kFloat32});
  for (const auto* each : {&bias, &direct}) {
    if (*each) (*each)->require_shape({channels}, "the channels of input");
  }
  const auto z = read_optional(gate, "gate", {Dtype::kFloat32}, kAny);
  if (z) z->require_shape(x.shape(), "that of input");
  const Shape state_shape = {batch, channels, states};
  const auto first = read_optional(initial_state, "initial_state", {Dtype::kFloat32});
  if (first)
    first->require_shape(state_shape, "a state for each batch entry and channel").require_contiguous();
  std::optional<Tensor> last;
  if (!final_state.is_none()) last = Tensor::output(final_state, "final_state", state_shape, Dtype::kFloat32);
  const Tensor y = Tensor::output(out, "out", x.shape(), Dtype::kFloat32, kAny);
  y.require_apart(x, true).require_apart(d, true).require_apart(decay).require_apart(in).require_apart(to);
  y.require_apart_from_all({&bias, &direct, &first, &last});
  if (z) y.require_apart(*z, true);
  if (last) {
    last->require_contiguous().require_apart(x).require_apart(d).require_apart(decay).require_apart(in);
    last->require_apart(to).require_apart_from_all({&bias, &direct, &z});
    if (first) last->require_apart(*first, true);
  }

  ferrule_selective_scan_args args = {};
  args.input = x.data<float>();
  args.delta = d.data<float>();
  args.delta_bias = data_of<float>(bias);
  args.a = decay.data<float>();
  args.b = in.data<float>();
  args.c = to.data<float>();
  args.skip = data_of<float>(direct);
  args.gate = data_of<float>(z);
  args.initial_state = data_of<float>(first);
  args.final_state = data_of<float>(last);
  args.output = y.data<float>();
  args.input_strides = strides_of(x);
  args.delta_strides = strides_of(d);
  if (z) args.gate_strides = strides_of(*z);
  args.output_strides = strides_of(y);
  args.b_strides = group_strides_of(in);
  args.c_strides = group_strides_of(to);
  args.batch = batch;
  args.length = length;
  args.channels = channels;
  args.states = states;
  args.groups = groups;
  args.softplus = require_bool(softplus, "softplus");
  const std::string usable = require_isa(isa);
  run("selective_scan", pool, [&](ferrule_pool* threads) {
    const size_t bytes = ferrule_selective_scan_scratch(&args, ferrule_pool_threads(threads));
    return ferrule_selective_scan(&args, usable.c_str(), threads, take_scratch(bytes));
  });
  return y.object();
}

}  // namespace

void bind_special(py::module_& module) {
  const py::object none = py::none();
  module.def("hadamard", &hadamard, "Walsh-Hadamard transform along the last axis.", py::arg("input"),
             py::kw_only(), py::arg("scale") = none, py::arg("transposed") = false, py::arg("out") = none,
             py::arg("pool") = none, py::arg("isa") = none);
  module.def("rational", &rational, "Group-rational activation.", py::arg("input"), py::arg("numerator"),
             py::arg("denominator"), py::kw_only(), py::arg("form") = "terms", py::arg("out") = none,
             py::arg("pool") = none, py::arg("isa") = none);
  module.def("selective_scan", &selective_scan, "The selective scan of Mamba.", py::arg("input"),
             py::arg("delta"), py::arg("a"), py::arg("b"), py::arg("c"), py::kw_only(),
             py::arg("delta_bias") = none, py::arg("skip") = none, py::arg("gate") = none,
             py::arg("initial_state") = none, py::arg("final_state") = none, py::arg("softplus") = false,
             py::arg("out") = none, py::arg("pool") = none, py::arg("isa") = none);
}

}  // namespace ferrule::bindings
