#include "executor/sha256.h"

#include <string.h>

namespace ferrule::executor {

namespace {

constexpr size_t kBlock = 64;

// FIPS 180-4, section 4.2.2: fractional parts of the cube roots of the first 64 primes.
constexpr uint32_t kRounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

uint32_t read_word(const unsigned char* bytes) {
  return static_cast<uint32_t>(bytes[0]) << 24 | static_cast<uint32_t>(bytes[1]) << 16 |
         static_cast<uint32_t>(bytes[2]) << 8 | bytes[3];
}

// Leaves the new `a` in h and the new `e` in d.
inline void round(uint32_t a, uint32_t b, uint32_t c, uint32_t& d, uint32_t e, uint32_t f, uint32_t g,
                  uint32_t& h, uint32_t input) {
  h += (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + input;
  d += h;
  h += (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
}

}  // namespace

// Section 6.2.2. The eight working variables stay where they are, and their roles move on by one each round.
void Sha256::add_block(const unsigned char* block) {
  uint32_t w[64];
  for (int t = 0; t < 16; ++t) w[t] = read_word(block + 4 * t);
  for (int t = 16; t < 64; ++t) {
    const uint32_t early = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
    const uint32_t late = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
    w[t] = w[t - 16] + early + w[t - 7] + late;
  }
  uint32_t a = state_[0], b = state_[1], c = state_[2], d = state_[3];
  uint32_t e = state_[4], f = state_[5], g = state_[6], h = state_[7];
  for (int t = 0; t < 64; t += 8) {
    round(a, b, c, d, e, f, g, h, kRounds[t] + w[t]);
    round(h, a, b, c, d, e, f, g, kRounds[t + 1] + w[t + 1]);
    round(g, h, a, b, c, d, e, f, kRounds[t + 2] + w[t + 2]);
    round(f, g, h, a, b, c, d, e, kRounds[t + 3] + w[t + 3]);
    round(e, f, g, h, a, b, c, d, kRounds[t + 4] + w[t + 4]);
    round(d, e, f, g, h, a, b, c, kRounds[t + 5] + w[t + 5]);
    round(c, d, e, f, g, h, a, b, kRounds[t + 6] + w[t + 6]);
    round(b, c, d, e, f, g, h, a, kRounds[t + 7] + w[t + 7]);
  }
  const uint32_t worked[8] = {a, b, c, d, e, f, g, h};
  for (int i = 0; i < 8; ++i) state_[i] += worked[i];
}

void Sha256::add(const void* bytes, size_t count) {
  const auto* from = static_cast<const unsigned char*>(bytes);
  const size_t held = bytes_ % kBlock;
  bytes_ += count;
  if (held) {
    const size_t missing = kBlock - held < count ? kBlock - held : count;
    memcpy(pending_ + held, from, missing);
    from += missing, count -= missing;
    if (held + missing < kBlock) return;
    add_block(pending_);
  }
  for (; count >= kBlock; from += kBlock, count -= kBlock) add_block(from);
  if (count) memcpy(pending_, from, count);
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
