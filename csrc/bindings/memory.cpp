#include "memory.h"

#include <algorithm>
#include <memory>
#include <string>

#include "errors.h"

namespace ferrule::bindings {

Block::Block(size_t bytes, const char* name) : size_(bytes) {
  if (bytes > PTRDIFF_MAX || !ferrule_arena_create(&arena_, std::max<size_t>(bytes, 1))) {
    refuse_size(name, std::to_string(bytes) + " bytes", "as much as there is memory");
  }
}

void* take_scratch(size_t bytes) {
  thread_local std::unique_ptr<Block> block;
  if (!block || block->size() < bytes) {
    block.reset();
    block = std::make_unique<Block>(bytes, "scratch memory");
  }
  return block->data();
}

}  // namespace ferrule::bindings
