#include "tests/window.h"

#include <stdio.h>

namespace ferrule::tests {

namespace {

struct Dimension {
  size_t input, output, kernel, stride, dilation, pad;
};

Dimension draw_dimension(Random& random, size_t longest) {
  constexpr size_t kUsual[] = {1, 3, 3, 5, 7};
  Dimension d = {};
  d.input = random.size(longest);
  d.kernel = random.chance(3) ? static_cast<size_t>(random.integer(1, 8)) : kUsual[random.integer(0, 4)];
  d.stride = random.chance(2) ? 1 : static_cast<size_t>(random.integer(1, 3));
  d.dilation = random.chance(4) ? static_cast<size_t>(random.integer(1, 3)) : 1;
  d.pad = static_cast<size_t>(random.integer(0, static_cast<int64_t>(d.kernel) + 1));
  const auto below = static_cast<size_t>(random.integer(0, static_cast<int64_t>(d.kernel) + 1));
  d.output = ferrule_window_outputs(d.input, d.kernel, d.stride, d.dilation, d.pad + below);
  return d;
}

}  // namespace

ferrule_window draw_window(Random& random) {
  const Dimension height = draw_dimension(random, random.chance(3) ? 1 : 6),
                  width = draw_dimension(random, 18);
  ferrule_window window = {};
  window.batch = random.chance(4) ? random.size(3) : 1;
  window.in_height = height.input;
  window.in_width = width.input;
  window.out_height = height.output;
  window.out_width = width.output;
  window.kernel_height = height.kernel;
  window.kernel_width = width.kernel;
  window.stride_height = height.stride;
  window.stride_width = width.stride;
  window.dilation_height = height.dilation;
  window.dilation_width = width.dilation;
  window.pad_top = height.pad;
  window.pad_left = width.pad;
  return window;
}

std::string describe_window(const ferrule_window& w) {
  char text[200];
  snprintf(text, sizeof(text),
           "%zu images %zu x %zu to %zu x %zu kernel %zu x %zu stride %zu %zu dilation %zu %zu pad %zu %zu",
           w.batch, w.in_height, w.in_width, w.out_height, w.out_width, w.kernel_height, w.kernel_width,
           w.stride_height, w.stride_width, w.dilation_height, w.dilation_width, w.pad_top, w.pad_left);
  return text;
}

}  // namespace ferrule::tests
