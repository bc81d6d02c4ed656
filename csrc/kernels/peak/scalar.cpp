#include <stdint.h>

#include "kernels/declarations.h"

namespace {

constexpr size_t kRounds = 4096;

double multiply_add(size_t units) {
  float sums[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  for (size_t i = 0; i < units * kRounds; ++i) {
    for (float& sum : sums) sum = sum * 0.999f + 0.5f;
  }
  double total = 0;
  for (const float sum : sums) total += static_cast<double>(sum);
  return total;
}

double multiply_codes(size_t units) {
  int32_t sums[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  volatile int8_t seed = 3;
  int8_t code = seed;
  for (size_t i = 0; i < units * kRounds; ++i) {
    for (int32_t& sum : sums) sum = (sum & 0xFFFF) + code * static_cast<int8_t>(sum);
  }
  double total = 0;
  for (const int32_t sum : sums) total += sum;
  return total;
}

double read(const ferrule_peak_args& args, size_t units) {
  const auto* words = static_cast<const uint64_t*>(args.memory);
  uint64_t total = 0;
  for (size_t unit = 0; unit < units; ++unit) {
    for (size_t i = 0; i < args.bytes / sizeof(uint64_t); ++i) total ^= words[i];
  }
  return static_cast<double>(total);
}

}  // namespace

void ferrule_peak_scalar(const ferrule_peak_args* args, size_t begin, size_t end, void*) {
  const size_t units = end - begin;
  switch (args->kind) {
    case FERRULE_PEAK_FMA:
      *args->sink += multiply_add(units);
      *args->done += static_cast<double>(units * kRounds * 8 * 2);
      break;
    case FERRULE_PEAK_DOT_I8:
      *args->sink += multiply_codes(units);
      *args->done += static_cast<double>(units * kRounds * 8 * 2);
      break;
    case FERRULE_PEAK_DOT_BF16:
      break;
    case FERRULE_PEAK_READ:
      *args->sink += read(*args, units);
      *args->done += static_cast<double>(units) * static_cast<double>(args->bytes);
      break;
  }
}
