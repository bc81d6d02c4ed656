#include "ferrule/linear.h"

#include <map>
#include <tuple>
#include <vector>

#include "ferrule/arena.h"
#include "ops/checksum.h"
#include "vendors/run.h"

namespace ferrule::vendors {

namespace {

// digest, bits, group, dynamic, rows, depth: layers with equal keys are the same.
using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, size_t, size_t>;

Key key_of(const Call& call) {
  const Value* const a = call.attributes;
  const Tensor& x = call.inputs[0];
  return {a[3].integer,       a[0].integer, a[1].integer, a[2].integer != 0, call.inputs[1].sizes[0],
          x.sizes[x.rank - 1]};
}

}  // namespace

struct Layer {
  Key key;
  ferrule_arena memory = {};
  size_t bytes = 0;

  explicit Layer(Key key) : key(key) {}
  ~Layer() { ferrule_arena_destroy(&memory); }
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
};

namespace {

size_t count(const Tensor& tensor) {
  size_t elements = 1;
  for (size_t i = 0; i < tensor.rank; ++i) elements *= tensor.sizes[i];
  return elements;
}

// As digest_weights of runtime/torch_ops.py.
int64_t digest_of(const Call& call) {
  uint64_t digest = 0;
  for (size_t i = 1; i <= 4; ++i) {
    const Tensor& part = call.inputs[i];
    if (part.absent) continue;
    const size_t bytes = count(part) * (i == 1 ? 1 : sizeof(float));
    digest = digest * 0x100000001B3u ^ ops::checksum(part.data, bytes);
  }
  return static_cast<int64_t>(digest);
}

// One index a byte, as ferrule_linear_pack takes them.
std::vector<uint8_t> unpack(const Call& call, size_t depth) {
  const auto bits = static_cast<size_t>(call.attributes[0].integer);
  const size_t places = 8 / bits - 1, halvings = bits == 4 ? 1 : 2;
  const Tensor& codes = call.inputs[1];
  std::vector<uint8_t> indices(codes.sizes[0] * depth);
  for (size_t r = 0; r < codes.sizes[0]; ++r) {
    const uint8_t* const packed = data_of<uint8_t>(codes) + r * codes.sizes[1];
    for (size_t c = 0; c < depth; ++c) {
      const int shifted = packed[c >> halvings] >> ((c & places) * bits);
      indices[r * depth + c] = static_cast<uint8_t>(shifted & ((1 << bits) - 1));
    }
  }
  return indices;
}

ferrule_status pack(const Call& call, Layer* layer) {
  if (digest_of(call) != call.attributes[3].integer) return FERRULE_BAD_PACKED;
  ferrule_linear_spec spec = {};
  spec.weight = call.attributes[0].integer == 4 ? FERRULE_WEIGHT_LOOKUP4 : FERRULE_WEIGHT_LOOKUP2;
  spec.input = call.attributes[2].integer ? FERRULE_INPUT_I8_DYNAMIC : FERRULE_INPUT_F32;
  spec.rows = call.inputs[1].sizes[0];
  spec.depth = std::get<5>(layer->key);
  spec.group = static_cast<size_t>(call.attributes[1].integer);
  const std::vector<uint8_t> indices = unpack(call, spec.depth);
  ferrule_linear_weights weights = {};
  weights.codes = indices.data();
  weights.scales = data_of<float>(call.inputs[2]);
  weights.table = data_of<float>(call.inputs[3]);
  weights.bias = data_of<float>(call.inputs[4]);
  if (const auto status = ferrule_linear_packed_size(&spec, nullptr, &layer->bytes)) return status;
  if (!ferrule_arena_create(&layer->memory, layer->bytes)) return FERRULE_TOO_LARGE;
  return ferrule_linear_pack(&spec, nullptr, &weights, layer->memory.memory);
}

// The packed layer of a call: the holder's, or one that another place of the process holds, or a new one.
ferrule_status find_layer(const Call& call, Holder* holder, std::shared_ptr<const Layer>* found) {
  const Key key = key_of(call);
  const std::lock_guard<std::mutex> lock(holder->mutex);
  if (!holder->layer || holder->layer->key != key) {
    static std::mutex all_mutex;
    static std::map<Key, std::weak_ptr<const Layer>> all;
    const std::lock_guard<std::mutex> all_lock(all_mutex);
    std::shared_ptr<const Layer> known = all[key].lock();
    if (!known) {
      const auto made = std::make_shared<Layer>(key);
      if (const auto status = pack(call, made.get())) return status;
      all[key] = known = made;
    }
    holder->layer = known;
  }
  *found = holder->layer;
  return FERRULE_OK;
}

}  // namespace

ferrule_status shape_lookup_linear(Call* call) {
  const Tensor& x = call->inputs[0];
  const Tensor& codes = call->inputs[1];
  const int64_t bits = call->attributes[0].integer, group = call->attributes[1].integer;
  if (bits != 4 && bits != 2) return FERRULE_BAD_VALUE;
  if (x.rank == 0 || codes.rank != 2) return FERRULE_BAD_SHAPE;
  const size_t rows = codes.sizes[0], depth = x.sizes[x.rank - 1], per_byte = 8 / static_cast<size_t>(bits);
  const auto width = static_cast<size_t>(group);
  if (group < 0 || (width && rows % width != 0)) return FERRULE_BAD_VALUE;
  if (!has_sizes(codes, {rows, depth / per_byte + (depth % per_byte != 0)})) return FERRULE_BAD_SHAPE;
  const size_t palettes = width ? rows / width : 1, entries = size_t{1} << bits;
  if (!has_sizes(call->inputs[2], {rows}) || !has_sizes(call->inputs[3], {palettes, entries}) ||
      !has_sizes(call->inputs[4], {rows}))
    return FERRULE_BAD_SHAPE;
  call->outputs[0] = x;
  call->outputs[0].sizes[x.rank - 1] = rows;
  return FERRULE_OK;
}

ferrule_status run_lookup_linear(const Call& call, Holder* holder) {
  std::shared_ptr<const Layer> layer;
  if (const auto status = find_layer(call, holder, &layer)) return status;
  const size_t depth = std::get<5>(layer->key), rows = std::get<4>(layer->key);
  ferrule_linear_args args = {};
  args.packed = layer->memory.memory;
  args.packed_bytes = layer->bytes;
  args.input = data_of<float>(call.inputs[0]);
  args.input_stride = depth;
  args.output = call.outputs[0].data;
  args.output_stride = rows;
  args.m = depth ? count(call.inputs[0]) / depth : 0;
  const auto pool = current_pool();
  const size_t threads = ferrule_pool_threads(pool.get());
  void* const scratch = take_scratch(ferrule_linear_scratch(args.packed, args.packed_bytes, args.m, threads));
  if (!scratch) return FERRULE_TOO_LARGE;
  return ferrule_linear(&args, scratch, pool.get());
}

}  // namespace ferrule::vendors
