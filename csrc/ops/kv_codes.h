// Coded keys and values that lie contiguously, [batch][head][token][bytes of a row], their scales and offsets
// [batch][head][token][groups]: as the ops of programs and of the vendors' runtimes take them.
#ifndef FERRULE_OPS_KV_CODES_H
#define FERRULE_OPS_KV_CODES_H

#include "ferrule/quantize_kv.h"

namespace ferrule::ops {

struct KvCoding {
  ferrule_kv_kind kind;
  size_t group;  // channels that share a scale; 0: all of a head

  size_t row_bytes(size_t head_size) const;
  size_t groups(size_t head_size) const;
};

// False where there are no codes of so many bits, or no such groups.
bool find_coding(int64_t bits, int64_t group, KvCoding* coding);

// Sizes and strides, without addresses. x: batch, heads, tokens, head size.
ferrule_quantize_kv_args describe_quantize_kv(const size_t* x, const KvCoding& coding);

// The same; keys and values alike. query: batch, heads, queries, head size. keys: batch, kv heads, tokens.
ferrule_attention_args describe_attention(const size_t* query, const size_t* keys, const KvCoding& coding);

}  // namespace ferrule::ops

#endif
