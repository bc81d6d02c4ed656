// Where a row of the cache lies and how its steps are chosen: the same on every instruction set.

#include <math.h>
#include <stddef.h>

#include "ferrule/quantize_kv.h"

namespace {

struct KvCodes {
  size_t bits, plane, group;
  float lowest, highest;
};

struct KvRow {
  const float* input;
  unsigned char* codes;
  float* scales;
  float* offsets;
};

struct KvStep {
  float scale, offset;
};

inline KvCodes code_range(const ferrule_quantize_kv_args& args) {
  KvCodes codes = {};
  codes.bits = args.kind == FERRULE_KV_I8 ? 8 : args.kind == FERRULE_KV_I4 ? 4 : 2;
  codes.plane = (args.head_size * codes.bits + 7) / 8;
  codes.group = args.group && args.group < args.head_size ? args.group : args.head_size;
  codes.lowest = args.kind == FERRULE_KV_I8 ? -128.0f : 0.0f;
  codes.highest = args.kind == FERRULE_KV_I8 ? 127.0f : args.kind == FERRULE_KV_I4 ? 15.0f : 3.0f;
  return codes;
}

inline KvRow locate_row(const ferrule_quantize_kv_args& args, size_t unit) {
  const size_t token = unit % args.tokens, head = unit / args.tokens % args.heads,
               batch = unit / args.tokens / args.heads;
  const size_t scale =
      batch * args.scale_batch_stride + head * args.scale_head_stride + token * args.scale_token_stride;
  return {args.input + batch * args.input_batch_stride + head * args.input_head_stride +
              token * args.input_token_stride,
          args.codes + batch * args.code_batch_stride + head * args.code_head_stride +
              token * args.code_token_stride,
          args.scales + scale, args.offsets ? args.offsets + scale : nullptr};
}

inline KvStep choose_step(const ferrule_quantize_kv_args& args, const KvCodes& codes, float low, float high,
                          bool has_nan) {
  if (has_nan) return {NAN, 0};
  if (!args.offsets) {
    const float largest = -low > high ? -low : high;
    return {args.clip * largest / 127, 0};
  }
  const float scale = (args.clip * high - args.clip * low) / (codes.highest - codes.lowest);
  return {scale, args.clip * low - scale * codes.lowest};
}

// `code` is within range and the byte was cleared.
inline void put_code(const KvRow& row, const KvCodes& codes, size_t channel, float code) {
  const int whole = static_cast<int>(rintf(code));
  row.codes[channel % codes.plane] |=
      static_cast<unsigned char>((whole & ((1 << codes.bits) - 1)) << (channel / codes.plane * codes.bits));
}

}  // namespace
