#include "ferrule/arena.h"

#include <stdint.h>
#include <stdlib.h>

#include <new>

int ferrule_arena_create(ferrule_arena* arena, size_t capacity) {
  const auto alignment = std::align_val_t(FERRULE_ALIGNMENT);
  auto* memory = static_cast<unsigned char*>(::operator new(capacity, alignment, std::nothrow));
  *arena = {memory, memory ? capacity : 0, 0, 0};
  return memory != nullptr;
}

void ferrule_arena_destroy(ferrule_arena* arena) {
  ::operator delete(arena->memory, std::align_val_t(FERRULE_ALIGNMENT));
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
