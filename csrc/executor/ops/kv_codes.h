// What the ops on coded keys and values share.
#ifndef FERRULE_EXECUTOR_OPS_KV_CODES_H
#define FERRULE_EXECUTOR_OPS_KV_CODES_H

#include "executor/ops/kernel_op.h"
#include "ops/kv_codes.h"

namespace ferrule::executor {

ops::KvCoding read_coding(const Node& node);

}  // namespace ferrule::executor

#endif
