#include "executor/sha256.h"

#include <string.h>

#include "executor/sha256_blocks.h"

namespace ferrule::executor {

namespace {

constexpr size_t kBlock = kSha256Block;

}  // namespace

void Sha256::add(const void* bytes, size_t count) {
  const auto* from = static_cast<const unsigned char*>(bytes);
  const size_t held = bytes_ % kBlock;
  bytes_ += count;
  if (held) {
    const size_t missing = kBlock - held < count ? kBlock - held : count;
    memcpy(pending_ + held, from, missing);
    from += missing, count -= missing;
    if (held + missing < kBlock) return;
    add_sha256_blocks(state_, pending_, 1);
  }
  add_sha256_blocks(state_, from, count / kBlock);
  const size_t rest = count % kBlock;
  if (rest) memcpy(pending_, from + count - rest, rest);
}

std::string Sha256::finish() {
  const uint64_t bits = bytes_ * 8;
  unsigned char tail[kBlock + 8] = {0x80};
  const size_t zeros = (bytes_ % kBlock < 56 ? 56 : 120) - bytes_ % kBlock;  // the first of them is the mark
  for (int i = 0; i < 8; ++i)
    tail[zeros + static_cast<size_t>(i)] = static_cast<unsigned char>(bits >> (56 - 8 * i));
  add(tail, zeros + 8);
  std::string digits;
  for (const uint32_t word : state_) {
    for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[word >> shift & 15];
  }
  return digits;
}

}  // namespace ferrule::executor
