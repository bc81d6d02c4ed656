#include <math.h>

#include "kernels/declarations.h"

#include "kernels/attention/layout.h"

// The definition that the other attention kernels are held to: two passes over the keys, sums in double.
namespace {

double element(const ferrule_kv& kv, const HeadRows& rows, size_t token, size_t channel, size_t head_size) {
  const unsigned char* row = rows.data + token * rows.row_bytes;
  if (kv.kind == FERRULE_KV_F32) return reinterpret_cast<const float*>(row)[channel];
  const size_t bits = code_bits(kv.kind), plane = plane_size(kv.kind, head_size);
  const unsigned byte = row[channel % plane];
  const int code = kv.kind == FERRULE_KV_I8
                       ? static_cast<signed char>(byte)
                       : static_cast<int>(byte >> (channel / plane * bits) & ((1u << bits) - 1));
  const size_t at = token * rows.scale_stride + channel / group_size(kv, head_size);
  return static_cast<double>(rows.scales[at]) * code + (rows.offsets ? rows.offsets[at] : 0.0f);
}

// One query over the keys [begin, end).
struct Query {
  const ferrule_attention_args& args;
  Row row;
  HeadRows keys, values;

  double logit(size_t key) const {
    const float* query = args.queries + row.batch * args.query_batch_stride +
                         row.head * args.query_head_stride + row.query * args.query_stride;
    double sum = 0;
    for (size_t c = 0; c < args.head_size; ++c)
      sum += query[c] * element(args.keys, keys, key, c, args.head_size);
    sum *= args.scale;
    if (args.bias) {
      sum += args.bias[row.batch * args.bias_batch_stride + row.head * args.bias_head_stride +
                       row.query * args.bias_query_stride + key * args.bias_key_stride];
    }
    if (args.slopes) {
      sum += static_cast<double>(args.slopes[row.head]) *
             (static_cast<double>(key) - static_cast<double>(row.query) -
              static_cast<double>(args.key_count) + static_cast<double>(args.query_count));
    }
    if (args.sizes) sum += log(static_cast<double>(args.sizes[row.batch * args.key_count + key]));
    return sum;
  }

  // Fills outputs[head_size] with the sum of exp(logit - max) * value; returns the sum of exp(logit - max).
  double attend(size_t begin, size_t end, double* outputs, double* max) const {
    for (size_t c = 0; c < args.head_size; ++c) outputs[c] = 0;
    *max = -INFINITY;
    for (size_t key = begin; key < end; ++key) *max = fmax(*max, logit(key));
    double total = 0;
    for (size_t key = begin; key < end; ++key) {
      const double x = logit(key);
      if (x == -INFINITY) continue;
      const double weight = exp(x - *max);
      total += weight;
      for (size_t c = 0; c < args.head_size; ++c) {
        outputs[c] += weight * element(args.values, values, key, c, args.head_size);
      }
    }
    return total;
  }
};

Query open_query(const ferrule_attention_args& args, const Row& row) {
  const size_t kv_head = row.head / (args.query_heads / args.kv_heads);
  return {args, row, head_rows(args.keys, row.batch, kv_head), head_rows(args.values, row.batch, kv_head)};
}

void write_output(const ferrule_attention_args& args, const Row& row, const double* outputs, double total,
                  double max) {
  float* output = args.output + row.batch * args.output_batch_stride + row.head * args.output_head_stride +
                  row.query * args.output_stride;
  for (size_t c = 0; c < args.head_size; ++c)
    output[c] = total == 0 ? 0 : static_cast<float>(outputs[c] / total);
  if (!args.log_sums) return;
  args.log_sums[(row.batch * args.query_heads + row.head) * args.query_count + row.query] =
      total == 0 ? -INFINITY : static_cast<float>(max + log(total));
}

}  // namespace

void ferrule_attention_prefill_scalar(const ferrule_attention_args* args, size_t begin, size_t end,
                                      void* scratch) {
  auto* outputs = static_cast<double*>(scratch);
  const size_t blocks = (args->query_count + args->query_block - 1) / args->query_block;
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t head = unit / blocks, first = unit % blocks * args->query_block;
    for (size_t i = first; i < smaller(first + args->query_block, args->query_count); ++i) {
      const Row row = {head / args->query_heads, head % args->query_heads, i};
      const KeyRange keys = unpadded_keys(*args, row.batch);
      double max = 0;
      const double total =
          open_query(*args, row).attend(keys.begin, smaller(keys.end, causal_end(*args, i)), outputs, &max);
      write_output(*args, row, outputs, total, max);
    }
  }
}

void ferrule_attention_decode_scalar(const ferrule_attention_args* args, size_t begin, size_t end,
                                     void* scratch) {
  auto* outputs = static_cast<double*>(scratch);
  const size_t group = args->query_heads / args->kv_heads, rows = group * args->query_count;
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t head = unit / args->slices, batch = head / args->kv_heads;
    const KeyRange keys = slice_keys(*args, batch, unit % args->slices);
    for (size_t r = 0; r < rows; ++r) {
      const Row row = {batch, head % args->kv_heads * group + r / args->query_count, r % args->query_count};
      double max = 0;
      const double total =
          open_query(*args, row)
              .attend(keys.begin, smaller(keys.end, causal_end(*args, row.query)), outputs, &max);
      if (args->slices == 1) {
        write_output(*args, row, outputs, total, max);
        continue;
      }
      float* partial = args->partials + (unit * rows + r) * (args->head_size + 2);
      partial[0] = static_cast<float>(max * 1.4426950408889634);
      partial[1] = static_cast<float>(total);
      for (size_t c = 0; c < args->head_size; ++c) partial[2 + c] = static_cast<float>(outputs[c]);
    }
  }
}
