#include "executor/op.h"

#include "executor/node.h"

namespace ferrule::executor {

#define FERRULE_OP(name) std::unique_ptr<Op> make_##name(const Node& node);
#include "executor/ops.inc"
#undef FERRULE_OP

std::unique_ptr<Op> make_op(const Node& node) {
#define FERRULE_OP(name) \
  if (node.op() == #name) return make_##name(node);
#include "executor/ops.inc"
#undef FERRULE_OP
  node.refuse("this version has no such op");
}

}  // namespace ferrule::executor
