// The windows of convolutions and poolings over images [batch, height, width, channels].
#ifndef FERRULE_EXECUTOR_OPS_WINDOW_H
#define FERRULE_EXECUTOR_OPS_WINDOW_H

#include "executor/ops/kernel_op.h"
#include "ferrule/window.h"

namespace ferrule::executor {

class WindowOp : public KernelOp {
 protected:
  // Reads {stride, dilation: [h, w], padding: [top, left, bottom, right]}; a dilation of 1 where it is
  // absent.
  WindowOp(const Node& node) : KernelOp(node) {
    const std::vector<size_t> stride = read_sizes(node, "stride", 2, 1);
    const std::vector<size_t> dilation =
        node.has("dilation") ? read_sizes(node, "dilation", 2, 1) : std::vector<size_t>{1, 1};
    const std::vector<size_t> padding = read_sizes(node, "padding", 4, 0);
    window_.stride_height = stride[0];
    window_.stride_width = stride[1];
    window_.dilation_height = dilation[0];
    window_.dilation_width = dilation[1];
    window_.pad_top = padding[0];
    window_.pad_left = padding[1];
    pad_bottom_ = padding[2];
    pad_right_ = padding[3];
  }

  // The window over images of these sizes; its outputs are 0 where none fits.
  ferrule_window window_over(const Shape& images) const {
    ferrule_window window = window_;
    window.batch = images[0];
    window.in_height = images[1];
    window.in_width = images[2];
    window.out_height = ferrule_window_outputs(window.in_height, window.kernel_height, window.stride_height,
                                               window.dilation_height, window.pad_top + pad_bottom_);
    window.out_width = ferrule_window_outputs(window.in_width, window.kernel_width, window.stride_width,
                                              window.dilation_width, window.pad_left + pad_right_);
    return window;
  }

  // The images that come of these, of the same dtype.
  Spec infer_images(const Spec& input, size_t channels) const {
    if (input.shape.rank != 4) misfit("its images " + input.shape.text() + " do not have four axes");
    const ferrule_window window = window_over(input.shape);
    const bool has_pixels = window.in_height > 0 && window.in_width > 0;
    if (!has_pixels || window.out_height == 0 || window.out_width == 0)
      misfit("its window does not fit images of " + input.shape.text());
    Spec result = input;
    result.shape[1] = window.out_height;
    result.shape[2] = window.out_width;
    result.shape[3] = channels;
    result.shape.check();
    return result;
  }

  ferrule_window window_ = {};  // but for its images
  size_t pad_bottom_, pad_right_;
};

}  // namespace ferrule::executor

#endif
