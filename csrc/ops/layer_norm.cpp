#include "ferrule/layer_norm.h"

#include "ops/norm.h"

ferrule_status ferrule_layer_norm(const ferrule_layer_norm_args* args, const char* isa, ferrule_pool* pool) {
  return ferrule::ops::run_norm<ferrule_layer_norm_fn>("layer_norm", *args, isa, pool);
}
