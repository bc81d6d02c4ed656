// Keys and values to codes.
#ifndef FERRULE_KERNELS_ATTENTION_I8_PREPARE_H
#define FERRULE_KERNELS_ATTENTION_I8_PREPARE_H

#include "kernels/attention_i8/layout.h"

namespace {

// One kv head: rows of float32 in, codes out.
struct Preparation {
  const ferrule_attention_args& args;
  const float *keys, *values;  // of the first token that is no padding
  size_t key_stride, value_stride, count, width;
  Codes codes;
  TileMemory tile;

  // Means of the keys and scales of the values, for each channel. Returns whether the keys are finite.
  bool measure() const {
    F32 wrong = zeros();
    for (size_t c = 0; c < width; c += kLanes) {
      const size_t lanes = c < args.head_size ? smaller(kLanes, args.head_size - c) : 0;
      F32 sum = zeros(), peak = zeros(), poison = zeros();
      for (size_t k = 0; k < count && lanes; ++k) {
        sum = add(sum, load_some(keys + k * key_stride + c, lanes));
        const F32 value = load_some(values + k * value_stride + c, lanes);
        peak = max(abs(value), peak);
        poison = fma(value, zeros(), poison);
      }
      const F32 mean = mul(sum, splat(1.0f / static_cast<float>(count)));
      wrong = fma(mean, zeros(), wrong);
      store(tile.means + c, mean);
      const Mask none = less(peak, splat(kSmallestPeak)), wild = is_nan(poison);
      store(codes.value_scales + c, select(wild, poison, select(none, zeros(), div(peak, splat(127)))));
      store(tile.inverses + c, select(wild, zeros(), select(none, zeros(), div(splat(127), peak))));
    }
    return sum_lanes(wrong) == 0;
  }

  void encode_key(size_t key) const {
    const float* row = keys + key * key_stride;
    F32 peak = zeros();
    for_vectors(args.head_size, [&](size_t c, size_t lanes) {
      peak = max(abs(sub(load_some(row + c, lanes), load(tile.means + c))), peak);
    });
    const Scale scale = scale_of(max_lanes(peak));
    codes.key_scales[key] = fminf(scale.scale, kLargestScale);
    int8_t* to = key_code(codes, width, key, 0);
    size_t done = 0;
    for_vectors(args.head_size, [&](size_t c, size_t lanes) {
      const F32 x = sub(load_some(row + c, lanes), load(tile.means + c));
      store_fours(to + c / 4 * 64, encode(x, splat(scale.inverse)));
      done = c + kLanes;
    });
    for (; done < width; done += 4) store_four(to + done / 4 * 64, 0);
  }

  void encode_keys() const {
    const size_t padded = round_up(count, kPanelKeys);
    for (size_t k = 0; k < count; ++k) encode_key(k);
    for (size_t k = count; k < padded; ++k) {
      codes.key_scales[k] = 0;
      for (size_t c = 0; c < width; c += 4) store_four(key_code(codes, width, k, c), 0);
    }
    for (size_t k = 0; k < padded; k += kLanes) {
      I32 sums = no_sums();
      for (size_t c = 0; c < width; c += 4)
        sums = add_signed(sums, load_codes_of(key_code(codes, width, k, c)));
      store_correction(codes.corrections + k, sums);
    }
  }

  void encode_values() const {
    const size_t padded = round_up(count, kPanelKeys);
    for (size_t k = 0; k < padded; k += 4) {
      for (size_t c = 0; c < width; c += kLanes) {
        const size_t lanes = c < args.head_size ? smaller(kLanes, args.head_size - c) : 0;
        const F32 inverse = load(tile.inverses + c);
        const auto code = [&](size_t i) {
          return encode(k + i < count ? load_some(values + (k + i) * value_stride + c, lanes) : zeros(),
                        inverse);
        };
        store_joined(codes.values + k * width + c * 4, code(0), code(1), code(2), code(3));
      }
    }
  }
};

void prepare_heads(const ferrule_attention_args& args, size_t begin, size_t end, void* scratch) {
  for (size_t unit = begin; unit < end; ++unit) {
    const size_t batch = unit / args.kv_heads, head = unit % args.kv_heads;
    const KeyRange range = unpadded_keys(args, batch);
    const size_t count = range.end - range.begin;
    if (count == 0) continue;
    const HeadRows keys = head_rows(args.keys, batch, head), values = head_rows(args.values, batch, head);
    const Preparation head_of = {args,
                                 reinterpret_cast<const float*>(keys.data + range.begin * keys.row_bytes),
                                 reinterpret_cast<const float*>(values.data + range.begin * values.row_bytes),
                                 args.keys.token_stride,
                                 args.values.token_stride,
                                 count,
                                 code_width(args.head_size),
                                 codes_of(args, batch, head),
                                 divide_tile(scratch, args.head_size)};
    bool finite = head_of.measure();
    head_of.encode_keys();
    head_of.encode_values();
    finite &= fill_biases(args, batch, range, head_of.codes.biases);
    if (!finite) poison(head_of.codes, count, head_of.width);
  }
}

}  // namespace

#endif
