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

struct ConvShape {
  size_t side, in_channels, out_channels, kernel, stride, pad;
  ferrule_window window() const {
    const size_t out = ferrule_window_outputs(side, kernel, stride, 1, 2 * pad);
    return {1, side, side, out, out, kernel, kernel, stride, stride, 1, 1, pad, pad};
  }
  std::string name() const {
    return std::to_string(side) + "^2 x " + std::to_string(in_channels) + " to " +
           std::to_string(out_channels) + ", kernel " + std::to_string(kernel) + "^2 / " +
           std::to_string(stride);
  }
};

constexpr ConvShape kConvShapes[] = {{56, 24, 144, 1, 1, 0}, {14, 480, 80, 1, 1, 0},
                                     {56, 64, 64, 3, 1, 1},  {14, 256, 256, 3, 1, 1},
                                     {224, 3, 32, 3, 2, 1},  {224, 3, 768, 16, 16, 0}};

}  // namespace ferrule::bench

#endif
