#ifndef FERRULE_BINDINGS_WINDOW_H
#define FERRULE_BINDINGS_WINDOW_H

#include "ferrule/window.h"
#include "tensor.h"

namespace ferrule::bindings {

struct Padding {
  size_t top, bottom, left, right;
};

// One number, (height, width), or (top, bottom, left, right).
Padding read_padding(const py::object& value);

// A window whose image sizes are not set yet; `stride` and `dilation` are one number or (height, width).
ferrule_window read_steps(size_t kernel_height, size_t kernel_width, const py::object& stride,
                          const Padding& padding, const py::object& dilation);

// Refuses a window that fits nowhere.
void require_outputs(const ferrule_window& window);

// The window of `kernel` (height, width) over images (batch, height, width, channels), with `stride` and
// `dilation` one number or (height, width), and `padding` one number, (height, width) or (top, bottom, left,
// right).
ferrule_window read_window(const Tensor& images, size_t kernel_height, size_t kernel_width,
                           const py::object& stride, const py::object& padding, const py::object& dilation);

// (batch, out_height, out_width, channels)
Shape output_shape(const ferrule_window& window, size_t channels);

}  // namespace ferrule::bindings

#endif
