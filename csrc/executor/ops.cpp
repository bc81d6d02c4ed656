#include "executor/op.h"

#include "executor/node.h"

namespace ferrule::executor {

// Here, and not in the header, of which every op would hold a copy.
Op::~Op() = default;
size_t Op::scratch(const std::vector<Spec>&, size_t) const { return 0; }
bool Op::is_view() const { return false; }
bool Op::may_overwrite(size_t) const { return false; }
bool Op::is_write() const { return false; }

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
