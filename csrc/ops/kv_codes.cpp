#include "ops/kv_codes.h"

namespace ferrule::ops {

namespace {

// Of an array [batch, heads, tokens, row] without gaps.
void set_strides(size_t row, size_t tokens, size_t heads, size_t* token, size_t* head, size_t* batch) {
  *token = row;
  *head = tokens * row;
  *batch = heads * *head;
}

}  // namespace

size_t KvCoding::row_bytes(size_t head_size) const {
  const size_t per_byte = kind == FERRULE_KV_I8 ? 1 : kind == FERRULE_KV_I4 ? 2 : 4;
  return head_size / per_byte + (head_size % per_byte != 0);
}

size_t KvCoding::groups(size_t head_size) const {
  return group ? head_size / group + (head_size % group != 0) : 1;
}

bool find_coding(int64_t bits, int64_t group, KvCoding* coding) {
  if ((bits != 8 && bits != 4 && bits != 2) || group < 0 || group % 16 != 0) return false;
  coding->kind = bits == 8 ? FERRULE_KV_I8 : bits == 4 ? FERRULE_KV_I4 : FERRULE_KV_I2;
  coding->group = static_cast<size_t>(group);
  return true;
}

ferrule_quantize_kv_args describe_quantize_kv(const size_t* x, const KvCoding& coding) {
  ferrule_quantize_kv_args args = {};
  args.batch = x[0];
  args.heads = x[1];
  args.tokens = x[2];
  args.head_size = x[3];
  args.kind = coding.kind;
  args.group = coding.group;
  set_strides(args.head_size, args.tokens, args.heads, &args.input_token_stride, &args.input_head_stride,
              &args.input_batch_stride);
  set_strides(coding.row_bytes(args.head_size), args.tokens, args.heads, &args.code_token_stride,
              &args.code_head_stride, &args.code_batch_stride);
  set_strides(coding.groups(args.head_size), args.tokens, args.heads, &args.scale_token_stride,
              &args.scale_head_stride, &args.scale_batch_stride);
  return args;
}

ferrule_attention_args describe_attention(const size_t* query, const size_t* keys, const KvCoding& coding) {
  ferrule_attention_args args = {};
  args.batch = query[0];
  args.query_heads = query[1];
  args.query_count = query[2];
  args.head_size = query[3];
  args.kv_heads = keys[1];
  args.key_count = keys[2];
  set_strides(args.head_size, args.query_count, args.query_heads, &args.query_stride, &args.query_head_stride,
              &args.query_batch_stride);
  set_strides(args.head_size, args.query_count, args.query_heads, &args.output_stride,
              &args.output_head_stride, &args.output_batch_stride);
  ferrule_kv& kv = args.keys;
  kv.kind = coding.kind;
  kv.group = coding.group;
  set_strides(coding.row_bytes(args.head_size), args.key_count, args.kv_heads, &kv.token_stride,
              &kv.head_stride, &kv.batch_stride);
  set_strides(coding.groups(args.head_size), args.key_count, args.kv_heads, &kv.scale_token_stride,
              &kv.scale_head_stride, &kv.scale_batch_stride);
  args.values = kv;
  return args;
}

}  // namespace ferrule::ops
