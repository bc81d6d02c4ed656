// The rows of a table that indices name.
// {kind: float32 | affine, weight | codes, scales, group}, in [indices int64 or int32]: [..., width].
#include "ferrule/embedding.h"

#include "executor/ops/kernel_op.h"
#include "executor/ops/packed.h"

namespace ferrule::executor {

namespace {

class Embedding : public KernelOp {
 public:
  explicit Embedding(const Node& node) : KernelOp(node) {
    node.use_kernel("embedding");
    constexpr Word kKinds[] = {{"float32", FERRULE_EMBEDDING_F32}, {"affine", FERRULE_EMBEDDING_I8}};
    kind_ = read_word(node, "kind", kKinds);
    const bool floats = kind_ == FERRULE_EMBEDDING_F32;
    table_ = node.map(floats ? "weight" : "codes", floats ? Dtype::kFloat32 : Dtype::kInt8, 2);
    if (!floats) read_codec(node);
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 1, 1);
    const Dtype dtype = inputs[0].dtype;
    if (dtype != Dtype::kInt64 && dtype != Dtype::kInt32)
      misfit("its indices are " + std::string(name_of(dtype)) + "; int64 or int32 is needed");
    Spec result = {Dtype::kFloat32, inputs[0].shape};
    result.shape.push(table_.shape()[1]);
    return {result};
  }

  void run(const Call& call) const override {
    const Array& indices = call.inputs[0];
    ferrule_embedding_args args = {};
    args.kind = kind_;
    args.index_bytes = static_cast<int>(size_of(indices.spec.dtype));
    args.table = table_.memory.get();
    args.scales = scales_.as<float>();
    args.indices = indices.data;
    args.output = call.outputs[0].as<float>();
    args.group = group_;
    args.count = indices.shape().count();
    args.rows = table_.shape()[0];
    args.width = args.output_stride = table_.shape()[1];
    args.output_scale = 1;
    const ferrule_status status = ferrule_embedding(&args, nullptr, call.pool);
    if (status == FERRULE_BAD_VALUE)
      refuse_value("an index is not within the table of " + std::to_string(args.rows) + " rows");
    require_ok(status);
  }

 private:
  void read_codec(const Node& node) {
    const size_t rows = table_.shape()[0], width = table_.shape()[1];
    group_ = require_size(node, "group", node.integer("group", 0), 0);
    if (group_ >= width) group_ = 0;
    if (group_ % 16 != 0) node.refuse("`group` is no multiple of 16");
    scales_ = read_scales(node, rows, group_ ? (width + group_ - 1) / group_ : 1);
  }

  int kind_ = 0;
  size_t group_ = 0;
  Constant table_, scales_;
};

}  // namespace

std::unique_ptr<Op> make_embedding(const Node& node) { return std::make_unique<Embedding>(node); }

}  // namespace ferrule::executor
