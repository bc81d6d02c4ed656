#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "ferrule/dispatch.h"
#include "ferrule/gemv_i8.h"

namespace py = pybind11;
namespace fb = ferrule::bindings;

namespace {

std::vector<std::pair<std::string, std::string>> list_kernels() {
  std::vector<std::pair<std::string, std::string>> rows;
  for (size_t i = 0; i < ferrule_kernel_count(); ++i) {
    const ferrule_kernel* kernel = ferrule_kernel_at(i);
    rows.emplace_back(kernel->op, kernel->isa);
  }
  return rows;
}

py::array_t<float> gemv_i8(const py::object& weights, const py::object& weight_scales,
                           const py::object& activations, const py::object& activation_scale,
                           const py::object& activation_zero, const py::object& bias, const py::object& isa) {
  const py::array w = fb::require_array(weights, "weights", "int8", 2);
  const py::ssize_t rows = w.shape(0);
  const py::ssize_t depth = w.shape(1);
  if (depth > FERRULE_GEMV_I8_MAX_DEPTH) {
    throw fb::ValueRefused("FER-KER-004 weights: found depth " + std::to_string(depth) +
                           "; allowed: at most " + std::to_string(FERRULE_GEMV_I8_MAX_DEPTH) +
                           ", beyond which int32 sums overflow");
  }
  const py::array s =
      fb::require_vector(weight_scales, "weight_scales", "float32", rows, "the rows of weights");
  const py::array a = fb::require_vector(activations, "activations", "int8", depth, "the columns of weights");
  py::array b;
  if (!bias.is_none()) b = fb::require_vector(bias, "bias", "float32", rows, "the rows of weights");

  py::array_t<float> output(rows);
  ferrule_gemv_i8_args args;
  args.weights = static_cast<const int8_t*>(w.data());
  args.weight_scales = static_cast<const float*>(s.data());
  args.activations = static_cast<const int8_t*>(a.data());
  args.activation_scale = fb::require_finite(activation_scale, "activation_scale");
  args.activation_zero = fb::require_int8(activation_zero, "activation_zero");
  args.bias = bias.is_none() ? nullptr : static_cast<const float*>(b.data());
  args.output = output.mutable_data();
  args.rows = static_cast<size_t>(rows);
  args.depth = static_cast<size_t>(depth);

  const ferrule_kernel* kernel = ferrule_find_kernel("gemv_i8", fb::require_isa(isa).c_str());
  {
    const py::gil_scoped_release release;
    reinterpret_cast<ferrule_gemv_i8_fn*>(kernel->function)(&args);
  }
  return output;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "Ferrule's native kernels; the typed signatures stand in _C.pyi.";
  py::register_exception<fb::TypeRefused>(module, "KernelTypeError", PyExc_TypeError);
  py::register_exception<fb::ValueRefused>(module, "KernelValueError", PyExc_ValueError);
  module.attr("GEMV_I8_MAX_DEPTH") = FERRULE_GEMV_I8_MAX_DEPTH;

  module.def("isas", &fb::usable_isas, "Instruction sets compiled in that this CPU runs, weakest first.");
  module.def("kernels", &list_kernels,
             "Rows (op, isa) of the kernel table, those the CPU cannot run included.");
  module.def(
      "active_isa", [] { return fb::require_isa(py::none()); },
      "Instruction set in use: FERRULE_ISA where set, else the strongest that this CPU runs.");
  module.def(
      "gemv_i8", &gemv_i8,
      "activation_scale * weight_scales * (weights @ (activations - activation_zero)) + bias, as float32.",
      py::arg("weights"), py::arg("weight_scales"), py::arg("activations"), py::arg("activation_scale"),
      py::arg("activation_zero"), py::arg("bias") = py::none(), py::kw_only(), py::arg("isa") = py::none());
}
