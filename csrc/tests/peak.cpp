#include "ferrule/arena.h"
#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

void test_peak(Rig& rig, ferrule_peak_fn* kernel) {
  if (!rig.random.chance(200))
    return;  // each case runs thousands of instructions and can only go wrong in one way
  ferrule_arena arena;
  rig.expect(ferrule_arena_create(&arena, 8192) != 0, "no memory");
  memset(arena.memory, 1, arena.capacity);
  double done = 0, sink = 0;
  const auto kind = static_cast<ferrule_peak_kind>(rig.random.integer(FERRULE_PEAK_FMA, FERRULE_PEAK_READ));
  const ferrule_peak_args args = {kind, arena.memory, arena.capacity, &done, &sink};
  kernel(&args, 0, 2, nullptr);
  rig.expect(kind == FERRULE_PEAK_READ ? done == 16384 : done >= 0, "miscounted");
  ferrule_arena_destroy(&arena);
}

}  // namespace ferrule::tests
