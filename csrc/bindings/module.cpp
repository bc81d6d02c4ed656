#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "ferrule/dispatch.h"
#include "groups.h"

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

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "Ferrule's native kernels; the typed signatures stand in _C.pyi.";
  py::register_exception<fb::TypeRefused>(module, "KernelTypeError", PyExc_TypeError);
  py::register_exception<fb::ValueRefused>(module, "KernelValueError", PyExc_ValueError);

  module.def("isas", &fb::usable_isas, "Instruction sets compiled in that this CPU runs, weakest first.");
  module.def("kernels", &list_kernels,
             "Rows (op, isa) of the kernel table, those the CPU cannot run included.");
  module.def(
      "active_isa", [] { return fb::require_isa(py::none()); },
      "Instruction set in use: FERRULE_ISA where set, else the strongest that this CPU runs.");
  fb::bind_attention(module);
  fb::bind_conv(module);
  fb::bind_elementwise(module);
  fb::bind_embedding(module);
  fb::bind_linear(module);
  fb::bind_norms(module);
  fb::bind_packed_conv(module);
  fb::bind_peak(module);
  fb::bind_pool(module);
  fb::bind_pooling(module);
  fb::bind_program(module);
  fb::bind_quantize(module);
  fb::bind_rope(module);
  fb::bind_special(module);
  fb::bind_tokens(module);
}
