#ifndef FERRULE_BINDINGS_MEMORY_H
#define FERRULE_BINDINGS_MEMORY_H

#include <cstddef>
#include <cstdint>

#include "ferrule/arena.h"

namespace ferrule::bindings {

// Memory at a multiple of FERRULE_ALIGNMENT.
class Block {
 public:
  // Throws ValueRefused, naming `name`, where there is not as much.
  Block(size_t bytes, const char* name);
  ~Block() { ferrule_arena_destroy(&arena_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  uint8_t* data() const { return arena_.memory; }
  size_t size() const { return size_; }

 private:
  ferrule_arena arena_;
  size_t size_;
};

// Scratch memory of the calling thread, kept for its next call: fresh pages cost more than a small op. It is
// this caller's until the thread's next call here.
void* take_scratch(size_t bytes);

}  // namespace ferrule::bindings

#endif
