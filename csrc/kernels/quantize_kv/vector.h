// Quantization of cache rows over the names of simd/README.md; included by the file of each instruction set.

namespace {

// The group [first, first + count) of a row.
KvStep measure_group(const ferrule_quantize_kv_args& args, const KvCodes& codes, const float* input,
                     size_t count) {
  F32 low = splat(input[0]), high = low, nans = zeros();
  for_vectors(count, [&](size_t i, size_t lanes) {
    F32 x = load_some(input + i, lanes);
    if (lanes != kLanes) x = keep_first(x, lanes, input[0]);
    low = min(low, x);
    high = max(high, x);
    nans = add(nans, select(is_nan(x), splat(1.0f), zeros()));
  });
  return choose_step(args, codes, min_lanes(low), max_lanes(high), sum_lanes(nans) > 0);
}

// Codes of `count` channels from `channel` on, all of one group and one plane.
void put_codes(const KvRow& row, const KvCodes& codes, const KvStep& step, size_t channel, size_t count) {
  const F32 lowest = splat(codes.lowest), highest = splat(codes.highest);
  const size_t plane = channel / codes.plane, shift = plane * codes.bits;
  const int mask = (1 << codes.bits) - 1;
  unsigned char* to = row.codes + channel - plane * codes.plane;
  for_vectors(count, [&](size_t i, size_t lanes) {
    F32 x = lowest;
    if (step.scale > 0)
      x = div(sub(load_some(row.input + channel + i, lanes), splat(step.offset)), splat(step.scale));
    x = select(less(x, highest), select(less(lowest, x), x, lowest), highest);
    float whole[kLanes];
    store(whole, round_even(x));
    for (size_t k = 0; k < lanes; ++k) {
      to[i + k] = static_cast<unsigned char>(to[i + k] | (static_cast<int>(whole[k]) & mask) << shift);
    }
  });
}

void quantize_rows(const ferrule_quantize_kv_args& args, size_t begin, size_t end) {
  const KvCodes codes = code_range(args);
  for (size_t unit = begin; unit < end; ++unit) {
    const KvRow row = locate_row(args, unit);
    memset(row.codes, 0, codes.plane);
    for (size_t first = 0, g = 0; first < args.head_size; first += codes.group, ++g) {
      const size_t last = first + codes.group < args.head_size ? first + codes.group : args.head_size;
      const KvStep step = measure_group(args, codes, row.input + first, last - first);
      row.scales[g] = step.scale;
      if (row.offsets) row.offsets[g] = step.offset;
      for (size_t c = first; c < last;) {
        const size_t plane_end = (c / codes.plane + 1) * codes.plane,
                     run_end = plane_end < last ? plane_end : last;
        put_codes(row, codes, step, c, run_end - c);
        c = run_end;
      }
    }
  }
}

}  // namespace
