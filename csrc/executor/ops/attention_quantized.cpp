// softmax(scale * q . k^T) . v of each head over keys and values that quantize_kv wrote, by
// ferrule/attention.h. {bits: 8 | 4 | 2, group, scale, causal, key_offsets, value_offsets, key_ends}, in [q
// [batch, heads, queries, head size], codes, scales and offsets of the keys, the same of the values, key_ends
// int32 [batch]]. The last three attributes say whether these inputs are there; offsets must be but for 8
// bits.
#include "executor/ops/kv_codes.h"
#include "ferrule/attention.h"

namespace ferrule::executor {

namespace {

class AttentionQuantized : public KernelOp {
 public:
  explicit AttentionQuantized(const Node& node)
      : KernelOp(node),
        coding_(read_coding(node)),
        scale_(read_float(node, "scale")),
        causal_(node.flag("causal")),
        has_offsets_{node.flag("key_offsets"), node.flag("value_offsets")},
        has_ends_(node.flag("key_ends")) {
    node.use_kernel("attention_prefill");
    node.use_kernel("attention_decode");
    if (coding_.kind != FERRULE_KV_I8 && !(has_offsets_[0] && has_offsets_[1]))
      node.refuse("codes of fewer than 8 bits need offsets");
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 5 + has_offsets_[0] + has_offsets_[1] + has_ends_);
    expect_floats(inputs[0], 4);
    const Shape &q = inputs[0].shape, &k = inputs[1].shape;
    if (q.rank != 4 || k.rank != 4 || k[1] == 0 || q[1] % k[1] != 0) misfit_shapes(q, k);
    Shape codes = k, scales = k, batch;
    codes[0] = scales[0] = q[0];
    codes[3] = coding_.row_bytes(q[3]);
    scales[3] = coding_.groups(q[3]);
    batch.push(q[0]);
    size_t next = 1;
    for (const bool has_offsets : has_offsets_) {
      expect(inputs[next++], Dtype::kUint8, codes);
      expect_shape(inputs[next++], scales);
      if (has_offsets) expect_shape(inputs[next++], scales);
    }
    if (has_ends_) expect(inputs[next], Dtype::kInt32, batch);
    if (q.count() && !scratch(inputs, 1)) misfit_shapes(q, k);
    return {inputs[0]};
  }

  size_t scratch(const std::vector<Spec>& inputs, size_t threads) const override {
    // Addresses that stand for those of the run.
    static float somewhere;
    ferrule_attention_args args = describe(inputs[0].shape, inputs[1].shape);
    args.queries = args.output = &somewhere;
    for (ferrule_kv* kv : {&args.keys, &args.values}) kv->data = kv->scales = kv->offsets = &somewhere;
    return ferrule_attention_scratch(&args, threads);
  }

  void run(const Call& call) const override {
    if (call.outputs[0].shape().count() == 0) return;
    ferrule_attention_args args = describe(call.inputs[0].shape(), call.inputs[1].shape());
    args.queries = call.inputs[0].as<float>();
    args.output = call.outputs[0].as<float>();
    const Array* next = call.inputs + 1;
    ferrule_kv* const sides[] = {&args.keys, &args.values};
    for (size_t i = 0; i < 2; ++i) {
      sides[i]->data = next++->data;
      sides[i]->scales = next++->as<float>();
      if (has_offsets_[i]) sides[i]->offsets = next++->as<float>();
    }
    if (has_ends_) args.key_ends = next->as<int32_t>();
    const size_t bytes = ferrule_attention_scratch(&args, ferrule_pool_threads(call.pool));
    require_ok(ferrule_attention(&args, nullptr, call.pool, call.scratch, bytes));
  }

 private:
  ferrule_attention_args describe(const Shape& q, const Shape& k) const {
    ferrule_attention_args args = ops::describe_attention(q.dims, k.dims, coding_);
    args.scale = scale_;
    args.causal = causal_;
    return args;
  }

  ops::KvCoding coding_;
  float scale_;
  bool causal_;
  bool has_offsets_[2];  // of keys, of values
  bool has_ends_;
};

}  // namespace

std::unique_ptr<Op> make_attention_quantized(const Node& node) {
  return std::make_unique<AttentionQuantized>(node);
}

}  // namespace ferrule::executor
