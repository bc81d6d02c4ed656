// What the ops with a sliding window check of it.
#ifndef FERRULE_OPS_WINDOW_H
#define FERRULE_OPS_WINDOW_H

#include "ferrule/status.h"
#include "ferrule/window.h"

namespace ferrule::ops {

// Whether the window's sizes are whole and its positions can be computed without overflow.
ferrule_status check_window(const ferrule_window& window);

// Whether an image tensor of batch * height * width pixels, `stride` elements apart, holds `channels` and
// fits memory.
ferrule_status check_images(size_t batch, size_t height, size_t width, size_t channels, size_t stride,
                            size_t element_bytes);

// Whether paddings behind the image are small enough to add up.
ferrule_status check_padding(size_t bottom, size_t right);

// How many rows of outputs are worth handing to another thread, if that takes `elements` to be read.
size_t share_of_task(size_t elements, const ferrule_window& window, size_t channels);

}  // namespace ferrule::ops

#endif
