#include "ferrule/rms_norm.h"

#include "ops/norm.h"

ferrule_status ferrule_rms_norm(const ferrule_rms_norm_args* args, const char* isa, ferrule_pool* pool) {
  return ferrule::ops::run_norm<ferrule_rms_norm_fn>("rms_norm", *args, isa, pool);
}
