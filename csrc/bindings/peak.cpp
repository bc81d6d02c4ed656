#include "ferrule/peak.h"

#include "arguments.h"
#include "ferrule/dispatch.h"
#include "groups.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

constexpr int64_t kMostUnits = 1 << 30;

double peak(const py::object& kind, const py::object& units, const py::object& memory,
            const py::object& isa) {
  ferrule_peak_args args = {};
  args.kind = static_cast<ferrule_peak_kind>(require_word(kind, "kind",
                                                          {{"fma", FERRULE_PEAK_FMA},
                                                           {"dot_i8", FERRULE_PEAK_DOT_I8},
                                                           {"dot_bf16", FERRULE_PEAK_DOT_BF16},
                                                           {"read", FERRULE_PEAK_READ}}));
  const auto count = static_cast<size_t>(require_integer(units, "units", 0, kMostUnits));
  const auto block = read_optional(memory, "memory", {Dtype::kUint8});
  if ((args.kind == FERRULE_PEAK_READ) != block.has_value()) {
    refuse_value("memory", block ? "an array" : "None", "an array with kind \"read\", None with the others");
  }
  if (block) {
    block->require_rank(1);
    if (block->size(0) % 1024 != 0 || reinterpret_cast<uintptr_t>(block->data<uint8_t>()) % 64 != 0) {
      refuse_layout("memory", std::to_string(block->size(0)) + " bytes",
                    "a multiple of 1024, at a multiple of 64");
    }
    args.memory = block->data<uint8_t>();
    args.bytes = block->size(0);
  }
  double done = 0, sink = 0;
  args.done = &done;
  args.sink = &sink;
  const ferrule_kernel* kernel = ferrule_find_kernel("peak", require_isa(isa).c_str());
  {
    const py::gil_scoped_release release;
    reinterpret_cast<ferrule_peak_fn*>(kernel->function)(&args, 0, count, nullptr);
  }
  return done;
}

}  // namespace

void bind_peak(py::module_& module) {
  module.def("peak", &peak, "Does work at the most that a core can; returns how much.", py::arg("kind"),
             py::arg("units") = 1, py::kw_only(), py::arg("memory") = py::none(),
             py::arg("isa") = py::none());
}

}  // namespace ferrule::bindings
