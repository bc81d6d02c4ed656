// One file for each group of ops; each adds its functions to the module.
#ifndef FERRULE_BINDINGS_GROUPS_H
#define FERRULE_BINDINGS_GROUPS_H

#include <pybind11/pybind11.h>

namespace ferrule::bindings {

void bind_attention(pybind11::module_& module);
void bind_conv(pybind11::module_& module);
void bind_elementwise(pybind11::module_& module);
void bind_embedding(pybind11::module_& module);
void bind_linear(pybind11::module_& module);
void bind_norms(pybind11::module_& module);
void bind_packed_conv(pybind11::module_& module);
void bind_peak(pybind11::module_& module);
void bind_pool(pybind11::module_& module);
void bind_pooling(pybind11::module_& module);
void bind_program(pybind11::module_& module);
void bind_quantize(pybind11::module_& module);
void bind_rope(pybind11::module_& module);
void bind_special(pybind11::module_& module);
void bind_tokens(pybind11::module_& module);

}  // namespace ferrule::bindings

#endif
