#include "ferrule/arena.h"

#include <stdint.h>

namespace ferrule::tests {

bool arena_passes() {
  ferrule_arena arena;
  if (!ferrule_arena_create(&arena, 1000)) return false;
  bool ok = reinterpret_cast<uintptr_t>(arena.memory) % FERRULE_ALIGNMENT == 0;
  auto* first = static_cast<unsigned char*>(ferrule_arena_take(&arena, 1));
  const size_t mark = arena.used;
  auto* second = static_cast<unsigned char*>(ferrule_arena_take(&arena, 65));
  ok = ok && second - first == FERRULE_ALIGNMENT && arena.used == mark + 128;
  ok = ok && !ferrule_arena_take(&arena, 1000) && !ferrule_arena_take(&arena, SIZE_MAX);
  ferrule_arena_rewind(&arena, mark);
  ok = ok && ferrule_arena_take(&arena, 3) == second && arena.highest == mark + 128;
  ferrule_arena_destroy(&arena);
  return ok && !arena.memory && !ferrule_arena_take(&arena, 1);
}

}  // namespace ferrule::tests
