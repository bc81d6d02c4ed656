#include "ops/kv_codes.h"
#include "vendors/run.h"

namespace ferrule::vendors {

namespace {

using ops::KvCoding;

// Both ops have the bits of a code and the channels of a group as their first attributes.
ferrule_status read_coding(const Call& call, KvCoding* coding) {
  return ops::find_coding(call.attributes[0].integer, call.attributes[1].integer, coding) ? FERRULE_OK
                                                                                          : FERRULE_BAD_VALUE;
}

void point_to(const Tensor* codes_scales_offsets, ferrule_kv* kv) {
  kv->data = codes_scales_offsets[0].data;
  kv->scales = data_of<float>(codes_scales_offsets[1]);
  kv->offsets = data_of<float>(codes_scales_offsets[2]);
}

}  // namespace

ferrule_status shape_attention_quantized(Call* call) {
  const Tensor& query = call->inputs[0];
  const Tensor& keys = call->inputs[1];
  if (query.rank != 4 || keys.rank != 4) return FERRULE_BAD_SHAPE;
  KvCoding coding;
  if (const auto status = read_coding(*call, &coding)) return status;
  const size_t batch = query.sizes[0], kv_heads = keys.sizes[1], tokens = keys.sizes[2];
  if (kv_heads == 0 || query.sizes[1] % kv_heads != 0) return FERRULE_BAD_SHAPE;
  const size_t bytes = coding.row_bytes(query.sizes[3]), groups = coding.groups(query.sizes[3]);
  for (size_t i : {1, 4}) {
    if (!has_sizes(call->inputs[i], {batch, kv_heads, tokens, bytes})) return FERRULE_BAD_SHAPE;
    for (size_t j : {i + 1, i + 2}) {
      if (!has_sizes(call->inputs[j], {batch, kv_heads, tokens, groups})) return FERRULE_BAD_SHAPE;
    }
    if (call->inputs[i + 2].absent && coding.kind != FERRULE_KV_I8) return FERRULE_BAD_TYPE;
  }
  if (!has_sizes(call->inputs[7], {batch})) return FERRULE_BAD_SHAPE;
  set_sizes(&call->outputs[0], {batch, query.sizes[1], query.sizes[2], query.sizes[3]});
  return FERRULE_OK;
}

ferrule_status run_attention_quantized(const Call& call, Holder*) {
  const Tensor* const in = call.inputs;
  KvCoding coding;
  if (const auto status = read_coding(call, &coding)) return status;
  ferrule_attention_args args = ops::describe_attention(in[0].sizes, in[1].sizes, coding);
  args.queries = data_of<float>(in[0]);
  args.output = data_of<float>(call.outputs[0]);
  point_to(in + 1, &args.keys);
  point_to(in + 4, &args.values);
  args.key_ends = data_of<int32_t>(in[7]);
  args.scale = static_cast<float>(call.attributes[2].real);
  args.causal = call.attributes[3].integer != 0;
  const auto pool = current_pool();
  const size_t bytes = ferrule_attention_scratch(&args, ferrule_pool_threads(pool.get()));
  void* const scratch = take_scratch(bytes);
  if (!scratch) return FERRULE_TOO_LARGE;
  return ferrule_attention(&args, nullptr, pool.get(), scratch, bytes);
}

ferrule_status shape_quantize_kv(Call* call) {
  const Tensor& x = call->inputs[0];
  if (x.rank != 4) return FERRULE_BAD_SHAPE;
  KvCoding coding;
  if (const auto status = read_coding(*call, &coding)) return status;
  if (!(call->attributes[2].real > 0 && call->attributes[2].real <= 1)) return FERRULE_BAD_VALUE;
  const size_t groups = coding.groups(x.sizes[3]);
  set_sizes(&call->outputs[0], {x.sizes[0], x.sizes[1], x.sizes[2], coding.row_bytes(x.sizes[3])});
  for (size_t i : {1, 2}) set_sizes(&call->outputs[i], {x.sizes[0], x.sizes[1], x.sizes[2], groups});
  return FERRULE_OK;
}

ferrule_status run_quantize_kv(const Call& call, Holder*) {
  KvCoding coding;
  if (const auto status = read_coding(call, &coding)) return status;
  ferrule_quantize_kv_args args = ops::describe_quantize_kv(call.inputs[0].sizes, coding);
  args.input = data_of<float>(call.inputs[0]);
  args.codes = data_of<unsigned char>(call.outputs[0]);
  args.scales = data_of<float>(call.outputs[1]);
  args.offsets = data_of<float>(call.outputs[2]);
  args.clip = static_cast<float>(call.attributes[2].real);
  return ferrule_quantize_kv(&args, nullptr, current_pool().get());
}

}  // namespace ferrule::vendors
