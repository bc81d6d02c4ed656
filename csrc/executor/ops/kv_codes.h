// What the ops on coded keys and values share.
#ifndef FERRULE_EXECUTOR_OPS_KV_CODES_H
#define FERRULE_EXECUTOR_OPS_KV_CODES_H

#include "executor/ops/kernel_op.h"
#include "ops/kv_codes.h"

namespace ferrule::executor {

inline ops::KvCoding read_coding(const Node& node) {
  ops::KvCoding coding;
  if (!ops::find_coding(node.integer("bits"), node.integer("group", 0), &coding))
    node.refuse("there are no codes of its `bits`, or none in its `group`");
  return coding;
}

}  // namespace ferrule::executor

#endif
