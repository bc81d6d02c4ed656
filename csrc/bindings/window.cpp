#include "window.h"

#include "arguments.h"

namespace ferrule::bindings {

Padding read_padding(const py::object& value) {
  if (is_list(value) && py::len(value) == 4) {
    const std::vector<size_t> sides = require_sizes(value, "padding", 4, 0);
    return {sides[0], sides[1], sides[2], sides[3]};
  }
  const std::vector<size_t> both = require_sizes(value, "padding", 2, 0);
  return {both[0], both[0], both[1], both[1]};
}

ferrule_window read_steps(size_t kernel_height, size_t kernel_width, const py::object& stride,
                          const Padding& padding, const py::object& dilation) {
  const std::vector<size_t> strides = require_sizes(stride, "stride", 2, 1);
  const std::vector<size_t> dilations = require_sizes(dilation, "dilation", 2, 1);
  ferrule_window window = {};
  window.kernel_height = kernel_height;
  window.kernel_width = kernel_width;
  window.stride_height = strides[0];
  window.stride_width = strides[1];
  window.dilation_height = dilations[0];
  window.dilation_width = dilations[1];
  window.pad_top = padding.top;
  window.pad_left = padding.left;
  return window;
}

ferrule_window read_window(const Tensor& images, size_t kernel_height, size_t kernel_width,
                           const py::object& stride, const py::object& padding, const py::object& dilation) {
  const Padding pads = read_padding(padding);
  ferrule_window window = read_steps(kernel_height, kernel_width, stride, pads, dilation);
  window.batch = images.size(0);
  window.in_height = images.size(1);
  window.in_width = images.size(2);
  window.out_height = ferrule_window_outputs(window.in_height, kernel_height, window.stride_height,
                                             window.dilation_height, pads.top + pads.bottom);
  window.out_width = ferrule_window_outputs(window.in_width, kernel_width, window.stride_width,
                                            window.dilation_width, pads.left + pads.right);
  require_outputs(window);
  return window;
}

void require_outputs(const ferrule_window& window) {
  if (window.out_height == 0 || window.out_width == 0) {
    refuse_shape("kernel", "one that is larger than the padded image", "one that fits into it at least once");
  }
}

Shape output_shape(const ferrule_window& window, size_t channels) {
  return {window.batch, window.out_height, window.out_width, channels};
}

}  // namespace ferrule::bindings
