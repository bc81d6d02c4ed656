#include "ops/checksum.h"

#include <string.h>

namespace ferrule::ops {

namespace {

// A multiplication takes several cycles, of which each may begin another: lanes that do not wait for each
// other.
constexpr size_t kLanes = 8, kWord = sizeof(uint64_t), kBlock = kLanes * kWord;
constexpr uint64_t kSeed = 0x9E3779B97F4A7C15u, kFactor = 0xBF58476D1CE4E5B9u;

// One to one in `sum` for any word, and in `word` for any sum: the factor is odd.
inline uint64_t mix(uint64_t sum, uint64_t word) {
  sum ^= word;
  return (sum << 29 | sum >> 35) * kFactor;
}

inline void add_block(const unsigned char* block, uint64_t* lanes) {
  for (size_t lane = 0; lane < kLanes; ++lane) {
    uint64_t word;
    memcpy(&word, block + lane * kWord, kWord);
    lanes[lane] = mix(lanes[lane], word);
  }
}

}  // namespace

// Word i goes into lane i % kLanes, the last block filled up with zeros; then the length and the lanes into
// one.
uint64_t checksum(const void* bytes, size_t count) {
  const auto* from = static_cast<const unsigned char*>(bytes);
  uint64_t lanes[kLanes];
  for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = kSeed + lane;
  size_t rest = count;
  for (; rest >= kBlock; rest -= kBlock, from += kBlock) add_block(from, lanes);
  if (rest) {
    unsigned char last[kBlock] = {};
    memcpy(last, from, rest);
    add_block(last, lanes);
  }
  uint64_t sum = count;
  for (const uint64_t lane : lanes) sum = mix(sum, lane);
  return sum ^ sum >> 32;
}

}  // namespace ferrule::ops
