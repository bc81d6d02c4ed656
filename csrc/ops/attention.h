// What the attention ops share: checking their arguments.
#ifndef FERRULE_OPS_ATTENTION_H
#define FERRULE_OPS_ATTENTION_H

#include "ferrule/attention.h"

namespace ferrule::ops {

ferrule_status check_attention(const ferrule_attention_args& args);

// Whether there is nothing to compute, so that nothing but this is checked.
bool is_empty(const ferrule_attention_args& args);

}  // namespace ferrule::ops

#endif
