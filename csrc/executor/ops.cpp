#include "executor/op.h"

#include "executor/node.h"

namespace ferrule::executor {

#define FERRULE_OP(name) std::unique_ptr<Op> make_##name(const Node& node);
#define FERRULE_LEFT_OUT(name)
#include "executor/ops.inc"
#undef FERRULE_OP
#undef FERRULE_LEFT_OUT

std::unique_ptr<Op> make_op(const Node& node) {
#define FERRULE_OP(name) \
  if (node.op() == #name) return make_##name(node);
#define FERRULE_LEFT_OUT(name) \
  if (node.op() == #name) node.leave_out("op " #name, "FERRULE_OPS");
#include "executor/ops.inc"
#undef FERRULE_OP
#undef FERRULE_LEFT_OUT
  node.refuse("this version has no such op");
}

}  // namespace ferrule::executor
