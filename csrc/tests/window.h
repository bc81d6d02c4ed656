// Random windows for the tests of convolutions.
#ifndef FERRULE_TESTS_WINDOW_H
#define FERRULE_TESTS_WINDOW_H

#include "ferrule/window.h"
#include "tests/rig.h"

namespace ferrule::tests {

// Kernels up to 8 x 8, paddings beyond half the kernel, outputs that reach past the image, sizes of zero.
ferrule_window draw_window(Random& random);

std::string describe_window(const ferrule_window& window);

inline size_t count_inputs(const ferrule_window& window) {
  return window.batch * window.in_height * window.in_width;
}
inline size_t count_outputs(const ferrule_window& window) {
  return window.batch * window.out_height * window.out_width;
}

}  // namespace ferrule::tests

#endif
