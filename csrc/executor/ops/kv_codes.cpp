#include "executor/ops/kv_codes.h"

namespace ferrule::executor {

ops::KvCoding read_coding(const Node& node) {
  ops::KvCoding coding;
  if (!ops::find_coding(node.integer("bits"), node.integer("group", 0), &coding))
    node.refuse("there are no codes of its `bits`, or none in its `group`");
  return coding;
}

}  // namespace ferrule::executor
