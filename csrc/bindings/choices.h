// Words of Python for the enumerations of the C interface.
#ifndef FERRULE_BINDINGS_CHOICES_H
#define FERRULE_BINDINGS_CHOICES_H

#include "arguments.h"
#include "ferrule/gemm.h"

namespace ferrule::bindings {

inline ferrule_activation require_activation(const py::object& value) {
  if (value.is_none()) return FERRULE_ACTIVATION_NONE;
  return static_cast<ferrule_activation>(require_word(value, "activation",
                                                      {{"relu", FERRULE_ACTIVATION_RELU},
                                                       {"gelu", FERRULE_ACTIVATION_GELU},
                                                       {"gelu_tanh", FERRULE_ACTIVATION_GELU_TANH},
                                                       {"silu", FERRULE_ACTIVATION_SILU},
                                                       {"relu6", FERRULE_ACTIVATION_RELU6},
                                                       {"hard_swish", FERRULE_ACTIVATION_HARD_SWISH}}));
}

// Results as int8 where a scale is given.
inline void read_requantization(const py::object& scale, const py::object& zero, ferrule_epilogue* epilogue) {
  if (!scale.is_none()) {
    epilogue->output_scale = require_number(scale, "output_scale");
    if (epilogue->output_scale <= 0) refuse_value("output_scale", py::str(scale), "above 0, or None");
  }
  epilogue->output_zero = static_cast<int32_t>(require_integer(zero, "output_zero", -128, 127));
}

}  // namespace ferrule::bindings

#endif
