// Keys or values as codes, by ferrule/quantize_kv.h. {bits: 8 | 4 | 2, group, clip, results: 3}, in [x
// [batch, heads, tokens, head size]]; results codes, uint8 [batch, heads, tokens, bytes of a row] (those of 8
// bits two's complement), scales and offsets [batch, heads, tokens, groups].
#include "ferrule/quantize_kv.h"

#include "executor/ops/kv_codes.h"

namespace ferrule::executor {

namespace {

class QuantizeKv : public KernelOp {
 public:
  explicit QuantizeKv(const Node& node)
      : KernelOp(node), coding_(read_coding(node)), clip_(read_float(node, "clip")) {
    node.use_kernel("quantize_kv");
    if (!(clip_ > 0 && clip_ <= 1)) node.refuse("`clip` is out of range");
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 1);
    expect_floats(inputs[0], 4);
    const Shape& x = inputs[0].shape;
    if (x.rank != 4 || x[3] == 0) misfit("its input has other than four axes, or empty rows");
    Spec codes{Dtype::kUint8, x}, scales = inputs[0];
    codes.shape[3] = coding_.row_bytes(x[3]);
    scales.shape[3] = coding_.groups(x[3]);
    return {codes, scales, scales};
  }

  void run(const Call& call) const override {
    ferrule_quantize_kv_args args = ops::describe_quantize_kv(call.inputs[0].shape().dims, coding_);
    args.input = call.inputs[0].as<float>();
    args.codes = call.outputs[0].as<unsigned char>();
    args.scales = call.outputs[1].as<float>();
    args.offsets = call.outputs[2].as<float>();
    args.clip = clip_;
    require_ok(ferrule_quantize_kv(&args, nullptr, call.pool));
  }

 private:
  ops::KvCoding coding_;
  float clip_;
};

}  // namespace

std::unique_ptr<Op> make_quantize_kv(const Node& node) { return std::make_unique<QuantizeKv>(node); }

}  // namespace ferrule::executor
