#include "simd/neon.h"
#include "kernels/declarations.h"
#include "simd/transpose.h"

#include "kernels/selective_scan/block.h"
#include "kernels/selective_scan/power.h"
#include "kernels/selective_scan/tile.h"
#include "kernels/selective_scan/vector.h"

void ferrule_selective_scan_neon(const ferrule_selective_scan_args* args, size_t begin, size_t end,
                                 void* scratch) {
  selective_scan(*args, begin, end, scratch);
}
