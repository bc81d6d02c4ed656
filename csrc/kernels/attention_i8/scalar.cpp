#include <math.h>
#include <string.h>

#include "kernels/declarations.h"

#include "kernels/attention_i8/layout.h"

// The definition that the other kernels are held to. Where a fused multiply-add decides what a code is, it is
// fused here as well.
namespace {

// round(x * inverse), |x * inverse| <= 127.5, by the last bits of a float whose last bit is worth one.
int8_t encode(float x, float inverse) {
  const float shifted = fmaf(x, inverse, 12582912.0f);
  uint32_t bits;
  memcpy(&bits, &shifted, sizeof(bits));
  return static_cast<int8_t>(static_cast<uint8_t>(bits));
}

// round(2^x), of small weights + dither, for x up to log2(255).
uint8_t weigh(float x, float dither) {
  x = fmaxf(x, kLeastWeight);
  const float whole = floorf(x), r = x - whole;
  const float p = fmaf(fmaf(fmaf(kPower[3], r, kPower[2]), r, kPower[1]), r, kPower[0]);
  const auto code = lrintf(ldexpf(p, static_cast<int>(whole)) + (x < kDithered ? dither : 0));
  return static_cast<uint8_t>(code < 255 ? code : 255);
}

const float* row_of(const HeadRows& rows, size_t token) {
  return reinterpret_cast<const float*>(rows.data + token * rows.row_bytes);
}

// Returns whether the keys are finite.
bool prepare_keys(const ferrule_attention_args& args, const HeadRows& rows, KeyRange range,
                  const Codes& codes, float* means) {
  const size_t count = range.end - range.begin, width = code_width(args.head_size);
  bool finite = true;
  for (size_t c = 0; c < args.head_size; ++c) {
    float sum = 0;
    for (size_t k = range.begin; k < range.end; ++k) sum += row_of(rows, k)[c];
    means[c] = sum * (1.0f / static_cast<float>(count));
    finite &= isfinite(means[c]);
  }
  for (size_t k = 0; k < round_up(count, kPanelKeys); ++k) {
    const float* row = row_of(rows, range.begin + k);
    float peak = 0;
    for (size_t c = 0; c < args.head_size && k < count; ++c) peak = fmaxf(peak, fabsf(row[c] - means[c]));
    const Scale scale = scale_of(peak);
    codes.key_scales[k] = fminf(scale.scale, kLargestScale);
    codes.corrections[k] = 0;
    for (size_t c = 0; c < width; ++c) {
      const int8_t code =
          k < count && c < args.head_size ? encode(row[c] - means[c], scale.inverse) : int8_t{0};
      *key_code(codes, width, k, c) = code;
      codes.corrections[k] -= 128 * code;
    }
  }
  return finite;
}

void prepare_values(const ferrule_attention_args& args, const HeadRows& rows, KeyRange range,
                    const Codes& codes) {
  const size_t count = range.end - range.begin, width = code_width(args.head_size);
  for (size_t c = 0; c < width; ++c) {
    float peak = 0;
    bool finite = true;
    for (size_t k = range.begin; k < range.end && c < args.head_size; ++k) {
      peak = fmaxf(peak, fabsf(row_of(rows, k)[c]));
      finite &= isfinite(row_of(rows, k)[c]);
    }
    const Scale scale = scale_of(finite ? peak : 0);
    codes.value_scales[c] = finite ? scale.scale : NAN;
    for (size_t k = 0; k < round_up(count, kPanelKeys); ++k) {
      codes.values[k / 4 * 4 * width + c * 4 + k % 4] =
          k < count && c < args.head_size ? encode(row_of(rows, range.begin + k)[c], scale.inverse)
                                          : int8_t{0};
    }
  }
}

void attend(const ferrule_attention_args& args, const Row& row, const TileMemory& tile) {
  const size_t width = code_width(args.head_size);
  const Codes codes = codes_of(args, row.batch, row.head / (args.query_heads / args.kv_heads));
  const float* query = query_row(args, row);
  float peak = 0;
  bool finite = true;
  for (size_t c = 0; c < args.head_size; ++c)
    peak = fmaxf(peak, fabsf(query[c])), finite &= isfinite(query[c]);
  const Scale scale = scale_of(finite ? peak : 0);
  for (size_t c = 0; c < width; ++c) {
    tile.queries[c] = c < args.head_size ? encode(query[c], scale.inverse) : int8_t{0};
    tile.outputs[c] = 0;
  }
  const float factor = query_factor(args, scale.scale);
  const size_t visible = visible_keys(args, unpadded_keys(args, row.batch), row.query);
  Softmax softmax;
  for (size_t first = 0; first < visible; first += kChunk) {
    const size_t count = smaller(kChunk, visible - first);
    float max = -INFINITY;
    for (size_t k = 0; k < count; ++k) {
      int32_t sum = 0;
      for (size_t c = 0; c < width; ++c) sum += tile.queries[c] * *key_code(codes, width, first + k, c);
      tile.logits[k] =
          fmaf(static_cast<float>(sum), codes.key_scales[first + k] * factor, codes.biases[first + k]);
      max = fmaxf(max, tile.logits[k]);
    }
    int32_t total = 0;
    for (size_t k = 0; k < count && max != -INFINITY; ++k)
      total += tile.weights[k] = weigh(tile.logits[k] - (max - kLogOfFull), kDither.of[k]);
    softmax.join(max, total);
    for (size_t c = 0; c < width && max != -INFINITY; ++c) {
      int32_t sum = 0;
      for (size_t k = 0; k < count; ++k) {
        const size_t key = first + k;
        sum += tile.weights[k] * codes.values[key / 4 * 4 * width + c * 4 + key % 4];
      }
      tile.outputs[c] = tile.outputs[c] * softmax.decay + static_cast<float>(sum) * softmax.share;
    }
  }
  const float share = (finite ? 1 : NAN) / softmax.sum;
  for (size_t c = 0; c < args.head_size; ++c)
    output_row(args, row)[c] = softmax.sum == 0 ? 0 : tile.outputs[c] * (codes.value_scales[c] * share);
}

}  // namespace

void ferrule_attention_i8_prepare_scalar(const ferrule_attention_args* args, size_t begin, size_t end,
                                         void* scratch) {
  const TileMemory tile = divide_tile(scratch, args->head_size);
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t batch = unit / args->kv_heads, head = unit % args->kv_heads;
    const KeyRange range = unpadded_keys(*args, batch);
    const Codes codes = codes_of(*args, batch, head);
    if (range.begin == range.end) continue;
    bool finite = prepare_keys(*args, head_rows(args->keys, batch, head), range, codes, tile.means);
    finite &= fill_biases(*args, batch, range, codes.biases);
    prepare_values(*args, head_rows(args->values, batch, head), range, codes);
    if (!finite) poison(codes, range.end - range.begin, code_width(args->head_size));
  }
}

void ferrule_attention_i8_scalar(const ferrule_attention_args* args, size_t begin, size_t end,
                                 void* scratch) {
  const TileMemory tile = divide_tile(scratch, args->head_size);
  const size_t blocks = (args->query_count + args->query_block - 1) / args->query_block;
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t head = unit / blocks, first = unit % blocks * args->query_block;
    for (size_t i = first; i < smaller(first + args->query_block, args->query_count); ++i)
      attend(*args, {head / args->query_heads, head % args->query_heads, i}, tile);
  }
}
