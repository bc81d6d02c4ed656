#include "ferrule/arena.h"

#include <stdint.h>
#include <stdlib.h>

#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace {

constexpr size_t kHugePage = 2 * 1024 * 1024;

std::align_val_t alignment_of(size_t capacity) {
  return std::align_val_t(capacity < kHugePage ? FERRULE_ALIGNMENT : kHugePage);
}

}  // namespace

int ferrule_arena_create(ferrule_arena* arena, size_t capacity) {
  auto* memory = static_cast<unsigned char*>(::operator new(capacity, alignment_of(capacity), std::nothrow));
#ifdef __linux__
  // Weights are read front to back once a product: on pages of 4 KB the misses of the TLB cost a third of the
  // bandwidth. Where the system grants none, nothing is lost.
  if (memory && capacity >= kHugePage) madvise(memory, capacity / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  *arena = {memory, memory ? capacity : 0, 0, 0};
  return memory != nullptr;
}

void ferrule_arena_destroy(ferrule_arena* arena) {
  ::operator delete(arena->memory, alignment_of(arena->capacity));
  *arena = {nullptr, 0, 0, 0};
}

void* ferrule_arena_take(ferrule_arena* arena, size_t bytes) {
  if (bytes > SIZE_MAX - FERRULE_ALIGNMENT) return nullptr;
  const size_t rounded = (bytes + FERRULE_ALIGNMENT - 1) / FERRULE_ALIGNMENT * FERRULE_ALIGNMENT;
  if (rounded > arena->capacity - arena->used) return nullptr;
  void* taken = arena->memory + arena->used;
  arena->used += rounded;
  if (arena->used > arena->highest) arena->highest = arena->used;
  return taken;
}

void ferrule_arena_rewind(ferrule_arena* arena, size_t mark) { arena->used = mark; }
