// The peaks of neon, dotprod and i8mm; the file of each defines multiply_codes.

namespace {

constexpr size_t kRounds = 4096;
constexpr size_t kChains = 24;  // more than latency times ports, fewer than registers

double multiply_codes(size_t units);

double multiply_add(size_t units) {
  F32 sums[kChains];
#pragma GCC unroll 24
  for (size_t c = 0; c < kChains; ++c) sums[c] = splat(static_cast<float>(c));
  const F32 a = splat(0.999f), b = splat(0.5f);
  for (size_t i = 0; i < units * kRounds; ++i) {
#pragma GCC unroll 24
    for (size_t c = 0; c < kChains; ++c) sums[c] = fma(a, b, sums[c]);
  }
  F32 total = zeros();
#pragma GCC unroll 24
  for (size_t c = 0; c < kChains; ++c) total = add(total, sums[c]);
  return static_cast<double>(sum_lanes(total));
}

double read(const ferrule_peak_args& args, size_t units) {
  const auto* memory = static_cast<const uint8_t*>(args.memory);
  uint8x16_t sums[4] = {vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)};
  for (size_t unit = 0; unit < units; ++unit) {
    for (size_t i = 0; i < args.bytes; i += 256) {
#pragma GCC unroll 16
      for (size_t j = 0; j < 16; ++j) sums[j % 4] = veorq_u8(sums[j % 4], vld1q_u8(memory + i + 16 * j));
    }
  }
  const uint8x16_t total = veorq_u8(veorq_u8(sums[0], sums[1]), veorq_u8(sums[2], sums[3]));
  return vgetq_lane_u8(total, 0);
}

void run_peak(const ferrule_peak_args& args, size_t units, size_t products) {
  const auto rounds = static_cast<double>(units * kRounds * kChains);
  switch (args.kind) {
    case FERRULE_PEAK_FMA:
      *args.sink += multiply_add(units);
      *args.done += rounds * kLanes * 2;
      break;
    case FERRULE_PEAK_DOT_I8:
      *args.sink += multiply_codes(units);
      *args.done += rounds * static_cast<double>(products) * 2;
      break;
    case FERRULE_PEAK_DOT_BF16:
      break;
    case FERRULE_PEAK_READ:
      *args.sink += read(args, units);
      *args.done += static_cast<double>(units) * static_cast<double>(args.bytes);
      break;
  }
}

}  // namespace
