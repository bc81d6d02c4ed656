#include "executor/memory.h"

#include <algorithm>

#include "executor/value.h"
#include "ferrule/arena.h"

namespace ferrule::executor {

namespace {

constexpr size_t kLargestBlock = 8 << 20;

}  // namespace

std::shared_ptr<unsigned char> Lender::lend(size_t bytes) {
  auto block = std::find_if(blocks_.begin(), blocks_.end(),
                            [](const Block& each) { return each.memory.use_count() <= 1; });
  if (block == blocks_.end()) block = blocks_.insert(block, {nullptr, 0});
  if (!block->memory || block->bytes < bytes) {
    block->memory.reset();  // so that both are not there at a time
    *block = {allocate(bytes), bytes};
  }
  // A count of its own, which ends with what was lent. Weak pointers to it may live on, and with them this
  // function.
  return {block->memory.get(), [held = block->memory](unsigned char*) mutable { held.reset(); }};
}

Region::Region(size_t expected) : block_bytes_(std::min(expected, kLargestBlock)) {}

std::shared_ptr<unsigned char> Region::take(size_t bytes) {
  if (bytes > block_bytes_) return allocate(bytes);
  const size_t rounded = (bytes + FERRULE_ALIGNMENT - 1) / FERRULE_ALIGNMENT * FERRULE_ALIGNMENT;
  if (rounded > capacity_ - used_) {
    block_ = allocate(std::max(rounded, block_bytes_));
    used_ = 0;
    capacity_ = std::max(rounded, block_bytes_);
  }
  const std::shared_ptr<unsigned char> taken(block_, block_.get() + used_);
  used_ += rounded;
  return taken;
}

}  // namespace ferrule::executor
