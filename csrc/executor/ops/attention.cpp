// softmax(scale * q . k^T + mask) . v of each head, by ferrule/attention.h, which reads any order of axes.
// {heads, kv_heads, scale, causal, layout: bshd | bhsd | qkv, mask, products: float32 | int8}, in [q, k, v]
// or [qkv], then the mask: [batch or 1, heads or 1, queries or 1, keys], float32 (added) or bool (true:
// visible).
//
// With `products` of int8, not float32, by ferrule/attention_i8.h, where that is the faster way; a mask then
// has one row for all heads and queries.
#include "ferrule/attention.h"

#include <math.h>

#include <algorithm>

#include "executor/ops/kernel_op.h"
#include "ferrule/arena.h"
#include "ferrule/attention_i8.h"

namespace ferrule::executor {

namespace {

constexpr size_t kSmallestTask = 65536;  // elements of a mask

enum class Sight { kShown, kHidden, kOther };

Sight look(uint8_t visible) { return visible ? Sight::kShown : Sight::kHidden; }

// The lowest float32 that models add in place of -infinity leaves nothing of a key beside one that is shown.
Sight look(float added) {
  return added == 0 ? Sight::kShown : added < -1e30f ? Sight::kHidden : Sight::kOther;
}

// Finds the keys that each row of a mask shows. False where they do not lie side by side, or there are none.
template <typename T>
bool find_ranges(const T* mask, size_t rows, size_t keys, int32_t* begins, int32_t* ends) {
  for (size_t row = 0; row < rows; ++row, mask += keys) {
    size_t begin = 0, end = keys;
    while (begin < end && look(mask[begin]) == Sight::kHidden) ++begin;
    while (begin < end && look(mask[end - 1]) == Sight::kHidden) --end;
    for (size_t key = begin; key < end; ++key) {
      if (look(mask[key]) != Sight::kShown) return false;
    }
    if (begin == end) return false;
    begins[row] = static_cast<int32_t>(begin);
    ends[row] = static_cast<int32_t>(end);
  }
  return true;
}

// The keys that the first row of a mask shows where they are the first ones, and each row shows one more than
// that before it: queries that follow each other in a cache. 0 for other masks.
template <typename T>
size_t find_steps(const T* mask, size_t rows, size_t keys) {
  size_t first = 0;
  while (first < keys && look(mask[first]) == Sight::kShown) ++first;
  if (first == 0 || first + rows - 1 > keys) return 0;
  for (size_t row = 0; row < rows; ++row, mask += keys) {
    for (size_t key = 0; key < keys; ++key) {
      if (look(mask[key]) != (key < first + row ? Sight::kShown : Sight::kHidden)) return 0;
    }
  }
  return first;
}

// Bytes of scratch memory that a mask takes: as numbers to add, or as the range of keys of each batch item.
size_t mask_bytes(const Spec& mask, size_t batch) {
  const size_t numbers = mask.dtype == Dtype::kBool ? mask.shape.count() * sizeof(float) : 0;
  const size_t bytes = std::max(numbers, 2 * batch * sizeof(int32_t));
  return (bytes + FERRULE_ALIGNMENT - 1) / FERRULE_ALIGNMENT * FERRULE_ALIGNMENT;
}

class Attention : public KernelOp {
 public:
  explicit Attention(const Node& node) : KernelOp(node) {
    node.use_kernel("attention_prefill");
    node.use_kernel("attention_decode");
    constexpr Word kLayouts[] = {{"bshd", kBshd}, {"bhsd", kBhsd}, {"qkv", kQkv}};
    layout_ = static_cast<Layout>(read_word(node, "layout", kLayouts));
    heads_ = require_size(node, "heads", node.integer("heads"), 1);
    kv_heads_ = require_size(node, "kv_heads", node.integer("kv_heads"), 1);
    if (heads_ % kv_heads_ != 0) node.refuse("`kv_heads` does not divide `heads`");
    scale_ = read_float(node, "scale");
    causal_ = node.flag("causal");
    has_mask_ = node.flag("mask");
    constexpr Word kProducts[] = {{"float32", 0}, {"int8", 1}};
    multiplies_codes_ = node.has("products") && read_word(node, "products", kProducts);
    for (const char* kernel : {"attention_i8_prepare", "attention_i8"}) {
      if (multiplies_codes_) node.use_kernel(kernel);
    }
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    const size_t count = mask_index() + has_mask_;
    require_inputs(inputs, count, count);
    for (size_t i = 0; i < mask_index(); ++i) expect_floats(inputs[i], 3);
    const Shape &q = inputs[0].shape, &k = inputs[mask_index() == 1 ? 0 : 1].shape;
    if (!fits_layout(q, k)) misfit_shapes(q, k);
    if (layout_ != kQkv) expect_shape(inputs[2], k);
    ferrule_attention_args args = describe(q, k);
    if (has_mask_) read_mask(inputs.back(), &args);
    if (multiplies_codes_ && (args.bias_head_stride || args.bias_query_stride))
      misfit("its mask " + inputs.back().shape.text() +
             " differs by head or query, which int8 products lack");
    Spec result = inputs[0];
    if (layout_ == kQkv) result.shape[2] = heads_ * args.head_size;
    if (result.shape.count() && !scratch_bytes(args, 1)) misfit_shapes(q, k);
    return {result};
  }

  size_t scratch(const std::vector<Spec>& inputs, size_t threads) const override {
    const ferrule_attention_args args = describe(inputs[0].shape, inputs[layout_ == kQkv ? 0 : 1].shape);
    const size_t mask = has_mask_ ? mask_bytes(inputs.back(), args.batch) : 0;
    return mask + scratch_bytes(args, threads);
  }

  void run(const Call& call) const override {
    if (call.outputs[0].shape().count() == 0) return;
    const Array& k = call.inputs[layout_ == kQkv ? 0 : 1];
    ferrule_attention_args args = describe(call.inputs[0].shape(), k.shape());
    args.queries = call.inputs[0].as<float>();
    args.output = call.outputs[0].as<float>();
    const size_t q_width = heads_ * args.head_size, kv_width = kv_heads_ * args.head_size;
    args.keys.data = layout_ == kQkv ? args.queries + q_width : k.as<float>();
    args.values.data = layout_ == kQkv ? args.queries + q_width + kv_width : call.inputs[2].as<float>();
    auto* scratch = static_cast<unsigned char*>(call.scratch);
    if (has_mask_) scratch += place_mask(call, &args);
    const size_t bytes = scratch_bytes(args, ferrule_pool_threads(call.pool));
    auto* attend = takes_codes(args) ? ferrule_attention_i8 : ferrule_attention;
    require_ok(attend(&args, nullptr, call.pool, scratch, bytes));
  }

 private:
  enum Layout { kBshd, kBhsd, kQkv };

  bool takes_codes(const ferrule_attention_args& args) const {
    return multiplies_codes_ && ferrule_attention_i8_pays(&args, nullptr);
  }

  size_t scratch_bytes(const ferrule_attention_args& args, size_t threads) const {
    return takes_codes(args) ? ferrule_attention_i8_scratch(&args, threads)
                             : ferrule_attention_scratch(&args, threads);
  }

  size_t mask_index() const { return layout_ == kQkv ? 1 : 3; }

  // Whether the sizes are those of as many heads, of as many channels in q and k.
  bool fits_layout(const Shape& q, const Shape& k) const {
    if (layout_ == kQkv) return q.rank == 3 && q[2] % (heads_ + 2 * kv_heads_) == 0;
    if (q.rank > 4 || k.rank != q.rank || q[0] != k[0]) return false;
    if (layout_ == kBhsd) return q.rank == 4 && q[1] == heads_ && k[1] == kv_heads_ && q[3] == k[3];
    if (q.rank == 4) return q[2] == heads_ && k[2] == kv_heads_ && q[3] == k[3];
    return q[2] % heads_ == 0 && k[2] == q[2] / heads_ * kv_heads_;
  }

  // Sizes and strides; addresses that stand for those of the run, so that they can be checked.
  ferrule_attention_args describe(const Shape& q, const Shape& k) const {
    static float somewhere;
    const bool bhsd = layout_ == kBhsd, qkv = layout_ == kQkv;
    ferrule_attention_args args = {};
    args.queries = args.output = &somewhere;
    args.keys.data = args.values.data = &somewhere;
    args.batch = q[0];
    args.query_heads = heads_;
    args.kv_heads = kv_heads_;
    args.query_count = bhsd ? q[2] : q[1];
    args.key_count = bhsd ? k[2] : k[1];
    args.head_size = qkv ? q[2] / (heads_ + 2 * kv_heads_) : q.rank == 4 ? q[3] : q[2] / heads_;
    args.scale = scale_;
    args.causal = causal_;
    const size_t width = heads_ * args.head_size;
    args.query_stride = qkv ? q[2] : bhsd ? args.head_size : width;
    args.query_head_stride = bhsd ? args.query_count * args.head_size : args.head_size;
    args.query_batch_stride = args.query_count * (qkv ? q[2] : width);
    args.output_stride = bhsd ? args.head_size : width;
    args.output_head_stride = args.query_head_stride;
    args.output_batch_stride = args.query_count * width;
    ferrule_kv& keys = args.keys;
    keys.token_stride = qkv ? q[2] : bhsd ? args.head_size : kv_heads_ * args.head_size;
    keys.head_stride = bhsd ? args.key_count * args.head_size : args.head_size;
    keys.batch_stride = args.key_count * (qkv ? q[2] : kv_heads_ * args.head_size);
    args.values = keys;
    return args;
  }

  // The strides of a mask, 0 along the axes that it is broadcast along.
  void read_mask(const Spec& mask, ferrule_attention_args* args) const {
    const size_t wanted[] = {args->batch, args->query_heads, args->query_count, args->key_count};
    size_t* strides[] = {&args->bias_batch_stride, &args->bias_head_stride, &args->bias_query_stride,
                         &args->bias_key_stride};
    bool fits = mask.shape.rank == 4 && (mask.dtype == Dtype::kBool || mask.dtype == Dtype::kFloat32);
    size_t stride = 1;
    for (size_t axis = 4; fits && axis-- > 0;) {
      const size_t size = mask.shape[axis];
      fits = size == wanted[axis] || size == 1;
      *strides[axis] = size == 1 ? 0 : stride;
      stride *= size;
    }
    if (!fits) misfit("its mask is " + std::string(name_of(mask.dtype)) + " " + mask.shape.text());
  }

  // Lets the kernel read the mask. Returns the bytes of scratch memory that it takes.
  size_t place_mask(const Call& call, ferrule_attention_args* args) const {
    const Array& mask = call.inputs[mask_index()];
    read_mask(mask.spec, args);
    const size_t bytes = mask_bytes(mask.spec, args->batch);
    if (place_ranges(mask, static_cast<int32_t*>(call.scratch), args) || place_steps(mask, args))
      return bytes;
    if (mask.spec.dtype == Dtype::kFloat32) {
      args->bias = mask.as<float>();
      return bytes;
    }
    const auto* visible = mask.as<uint8_t>();
    auto* bias = static_cast<float*>(call.scratch);
    divide(mask.shape().count(), kSmallestTask, call.pool, [=](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) bias[i] = visible[i] ? 0.0f : -HUGE_VALF;
    });
    args->bias = bias;
    return bytes;
  }

  // A mask that is causal for the keys of a cache that are in use: the kernel reads those alone.
  bool place_steps(const Array& mask, ferrule_attention_args* args) const {
    const size_t rows = args->query_count, keys = args->key_count;
    const Shape& shape = mask.shape();
    if (causal_ || shape[0] != 1 || shape[1] != 1 || shape[2] != rows || shape[3] != keys) return false;
    const size_t first = mask.spec.dtype == Dtype::kBool ? find_steps(mask.as<uint8_t>(), rows, keys)
                                                         : find_steps(mask.as<float>(), rows, keys);
    if (first == 0) return false;
    args->key_count = first + rows - 1;
    args->causal = 1;
    return true;
  }

  // Most masks hide nothing, or keys at an end of the row: padding, or what of a cache is not in use. The
  // kernel then adds nothing, and does not even read those keys.
  bool place_ranges(const Array& mask, int32_t* scratch, ferrule_attention_args* args) const {
    const size_t rows = mask.shape()[0], keys = args->key_count, batch = args->batch;
    const bool for_all =
        args->bias_query_stride == 0 && args->bias_head_stride == 0 && mask.shape()[3] == keys;
    if (!for_all || keys > INT32_MAX) return false;
    int32_t *begins = scratch, *ends = scratch + batch;
    const bool found = mask.spec.dtype == Dtype::kBool
                           ? find_ranges(mask.as<uint8_t>(), rows, keys, begins, ends)
                           : find_ranges(mask.as<float>(), rows, keys, begins, ends);
    if (!found) return false;
    // Under a causal mask a query may see none of the keys of a range; numbers then decide what it gets.
    for (size_t row = 0; causal_ && mask.spec.dtype == Dtype::kFloat32 && row < rows; ++row) {
      if (begins[row] != 0 || static_cast<size_t>(ends[row]) != keys) return false;
    }
    for (size_t b = rows; b < batch; ++b) begins[b] = begins[0], ends[b] = ends[0];
    args->key_begins = begins;
    args->key_ends = ends;
    return true;
  }

  Layout layout_;
  size_t heads_, kv_heads_;
  float scale_;
  bool causal_, has_mask_, multiplies_codes_;
};

}  // namespace

std::unique_ptr<Op> make_attention(const Node& node) { return std::make_unique<Attention>(node); }

}  // namespace ferrule::executor
