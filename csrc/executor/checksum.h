// The checksum of an array of a program's file, for damage, not for malice: bundles have SHA-256. Of the
// little-endian 64-bit words, the last padded with zeros, four lanes wide, so that it is as fast as the
// memory.
#ifndef FERRULE_EXECUTOR_CHECKSUM_H
#define FERRULE_EXECUTOR_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace ferrule::executor {

inline uint64_t mix_word(uint64_t sum, uint64_t word) {
  sum = (sum ^ word) * 0xBF58476D1CE4E5B9u;
  return sum ^ sum >> 29;
}

inline uint64_t checksum(const void* bytes, size_t count) {
  const auto* p = static_cast<const unsigned char*>(bytes);
  uint64_t lanes[4] = {count, 1, 2, 3};
  size_t i = 0, lane = 0;
  for (; i + 32 <= count; i += 32) {
    uint64_t words[4];
    memcpy(words, p + i, sizeof(words));
    for (int n = 0; n < 4; ++n) lanes[n] = mix_word(lanes[n], words[n]);
  }
  for (; i < count; i += 8, ++lane) {
    uint64_t word = 0;
    memcpy(&word, p + i, count - i < 8 ? count - i : 8);
    lanes[lane] = mix_word(lanes[lane], word);
  }
  uint64_t sum = 0x9E3779B97F4A7C15u;
  for (const uint64_t part : lanes) sum = mix_word(sum, part);
  return sum;
}

}  // namespace ferrule::executor

#endif
