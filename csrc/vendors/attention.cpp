#include "ferrule/attention.h"

#include "ferrule/quantize_kv.h"
#include "vendors/run.h"

namespace ferrule::vendors {

namespace {

// How codes of so many bits lie in memory.
struct Coding {
  ferrule_kv_kind kind;
  size_t row_bytes, groups, group;
};

ferrule_status read_coding(const Value& bits, const Value& group, size_t head_size, Coding* coding) {
  if (bits.integer != 8 && bits.integer != 4 && bits.integer != 2) return FERRULE_BAD_VALUE;
  if (group.integer < 0 || group.integer % 16 != 0) return FERRULE_BAD_VALUE;
  const auto width = static_cast<size_t>(group.integer);
  const size_t per_byte = 8 / static_cast<size_t>(bits.integer);
  coding->kind = bits.integer == 8 ? FERRULE_KV_I8 : bits.integer == 4 ? FERRULE_KV_I4 : FERRULE_KV_I2;
  coding->row_bytes = head_size / per_byte + (head_size % per_byte != 0);
  coding->groups = width ? head_size / width + (head_size % width != 0) : 1;
  coding->group = width;
  return FERRULE_OK;
}

ferrule_kv describe(const Tensor& codes, const Tensor& scales, const Tensor& offsets, const Coding& coding) {
  ferrule_kv kv = {};
  const size_t heads = codes.sizes[1], tokens = codes.sizes[2];
  kv.kind = coding.kind;
  kv.data = codes.data;
  kv.token_stride = coding.row_bytes;
  kv.head_stride = tokens * kv.token_stride;
  kv.batch_stride = heads * kv.head_stride;
  kv.scales = data_of<float>(scales);
  kv.offsets = data_of<float>(offsets);
  kv.scale_token_stride = coding.groups;
  kv.scale_head_stride = tokens * kv.scale_token_stride;
  kv.scale_batch_stride = heads * kv.scale_head_stride;
  kv.group = coding.group;
  return kv;
}

}  // namespace

ferrule_status shape_attention_quantized(Call* call) {
  const Tensor& query = call->inputs[0];
  const Tensor& keys = call->inputs[1];
  if (query.rank != 4 || keys.rank != 4) return FERRULE_BAD_SHAPE;
  Coding coding;
  if (const auto status = read_coding(call->attributes[0], call->attributes[1], query.sizes[3], &coding))
    return status;
  const size_t batch = query.sizes[0], kv_heads = keys.sizes[1], tokens = keys.sizes[2];
  if (kv_heads == 0 || query.sizes[1] % kv_heads != 0) return FERRULE_BAD_SHAPE;
  for (size_t i : {1, 4}) {
    if (!has_sizes(call->inputs[i], {batch, kv_heads, tokens, coding.row_bytes})) return FERRULE_BAD_SHAPE;
    for (size_t j : {i + 1, i + 2}) {
      if (!has_sizes(call->inputs[j], {batch, kv_heads, tokens, coding.groups})) return FERRULE_BAD_SHAPE;
    }
    if (call->inputs[i + 2].absent && coding.kind != FERRULE_KV_I8) return FERRULE_BAD_TYPE;
  }
  if (!has_sizes(call->inputs[7], {batch})) return FERRULE_BAD_SHAPE;
  set_sizes(&call->outputs[0], {batch, query.sizes[1], query.sizes[2], query.sizes[3]});
  return FERRULE_OK;
}

ferrule_status run_attention_quantized(const Call& call, Holder*) {
  const Tensor* const in = call.inputs;
  Coding coding;
  if (const auto status = read_coding(call.attributes[0], call.attributes[1], in[0].sizes[3], &coding))
    return status;
  ferrule_attention_args args = {};
  args.queries = data_of<float>(in[0]);
  args.output = data_of<float>(call.outputs[0]);
  args.batch = in[0].sizes[0];
  args.query_heads = in[0].sizes[1];
  args.query_count = in[0].sizes[2];
  args.head_size = in[0].sizes[3];
  args.kv_heads = in[1].sizes[1];
  args.key_count = in[1].sizes[2];
  args.query_stride = args.output_stride = args.head_size;
  args.query_head_stride = args.output_head_stride = args.query_count * args.head_size;
  args.query_batch_stride = args.output_batch_stride = args.query_heads * args.query_head_stride;
  args.keys = describe(in[1], in[2], in[3], coding);
  args.values = describe(in[4], in[5], in[6], coding);
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
  Coding coding;
  if (const auto status = read_coding(call->attributes[0], call->attributes[1], x.sizes[3], &coding))
    return status;
  if (!(call->attributes[2].real > 0 && call->attributes[2].real <= 1)) return FERRULE_BAD_VALUE;
  set_sizes(&call->outputs[0], {x.sizes[0], x.sizes[1], x.sizes[2], coding.row_bytes});
  for (size_t i : {1, 2}) set_sizes(&call->outputs[i], {x.sizes[0], x.sizes[1], x.sizes[2], coding.groups});
  return FERRULE_OK;
}

ferrule_status run_quantize_kv(const Call& call, Holder*) {
  const Tensor& x = call.inputs[0];
  Coding coding;
  if (const auto status = read_coding(call.attributes[0], call.attributes[1], x.sizes[3], &coding))
    return status;
  const ferrule_kv kv = describe(call.outputs[0], call.outputs[1], call.outputs[2], coding);
  ferrule_quantize_kv_args args = {};
  args.input = data_of<float>(x);
  args.batch = x.sizes[0];
  args.heads = x.sizes[1];
  args.tokens = x.sizes[2];
  args.head_size = x.sizes[3];
  args.input_token_stride = args.head_size;
  args.input_head_stride = args.tokens * args.head_size;
  args.input_batch_stride = args.heads * args.input_head_stride;
  args.kind = coding.kind;
  args.codes = data_of<unsigned char>(call.outputs[0]);
  args.code_batch_stride = kv.batch_stride;
  args.code_head_stride = kv.head_stride;
  args.code_token_stride = kv.token_stride;
  args.scales = data_of<float>(call.outputs[1]);
  args.offsets = data_of<float>(call.outputs[2]);
  args.scale_batch_stride = kv.scale_batch_stride;
  args.scale_head_stride = kv.scale_head_stride;
  args.scale_token_stride = kv.scale_token_stride;
  args.group = coding.group;
  args.clip = static_cast<float>(call.attributes[2].real);
  return ferrule_quantize_kv(&args, nullptr, current_pool().get());
}

}  // namespace ferrule::vendors
