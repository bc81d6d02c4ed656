// Shapes of convolutions from MobileNet, EfficientNet, ResNet, ConvNeXt and ViT.
#ifndef FERRULE_BENCH_WINDOW_H
#define FERRULE_BENCH_WINDOW_H

#include <string>

#include "ferrule/window.h"

namespace ferrule::bench {

struct DepthwiseShape {
  size_t side, channels, kernel, stride;
  ferrule_window window() const {
    const size_t pad = kernel / 2, out = ferrule_window_outputs(side, kernel, stride, 1, 2 * pad);
    return {1, side, side, out, out, kernel, kernel, stride, stride, 1, 1, pad, pad};
  }
  std::string name() const {
    return std::to_string(side) + "^2 x " + std::to_string(channels) + ", kernel " + std::to_string(kernel) +
           "^2 / " + std::to_string(stride);
  }
};

constexpr DepthwiseShape kDepthwiseShapes[] = {{112, 32, 3, 1}, {56, 144, 3, 1}, {56, 144, 3, 2},
                                               {14, 480, 3, 1}, {56, 144, 5, 1}, {14, 480, 5, 1},
                                               {14, 384, 7, 1}};

}  // namespace ferrule::bench

#endif
