#include "executor/sha256_blocks.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#ifdef __linux__
#include <sys/auxv.h>
#endif
#endif

namespace ferrule::executor {

namespace {

// FIPS 180-4, section 4.2.2: fractional parts of the cube roots of the first 64 primes.
alignas(16) constexpr uint32_t kRounds[64] = {
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

// Section 6.2.2. The eight working variables stay where they are, and their roles move on by one each round.
void add_block(uint32_t (&state)[8], const unsigned char* block) {
  uint32_t w[64];
  for (int t = 0; t < 16; ++t) w[t] = read_word(block + 4 * t);
  for (int t = 16; t < 64; ++t) {
    const uint32_t early = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
    const uint32_t late = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
    w[t] = w[t - 16] + early + w[t - 7] + late;
  }
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
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
  for (int i = 0; i < 8; ++i) state[i] += worked[i];
}

// Below, w holds the last 16 words of the schedule, four a vector, the oldest in w[t % 4] of the four rounds
// t.

#if defined(__x86_64__) && defined(__GNUC__)

bool has_instructions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool has_shuffles = __builtin_cpu_supports("sse4.1");
  return has_shuffles && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) != 0;
}

// The instructions take the working variables as (a, b, e, f) and (c, d, g, h), the first in the highest
// lane.
__attribute__((target("sha,sse4.1"))) void add_by_instructions(uint32_t (&state)[8],
                                                               const unsigned char* blocks, size_t count) {
  const __m128i order = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
  auto* const memory = reinterpret_cast<__m128i*>(state);
  const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(memory), 0xB1);
  const __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128(memory + 1), 0x1B);
  __m128i abef = _mm_alignr_epi8(badc, hgfe, 8), cdgh = _mm_blend_epi16(hgfe, badc, 0xF0);
  for (; count > 0; --count, blocks += kSha256Block) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[4];
    for (int i = 0; i < 4; ++i)
      w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks) + i), order);
#pragma GCC unroll 16
    for (int t = 0; t < 16; ++t) {
      __m128i& oldest = w[t % 4];
      const __m128i after = w[(t + 1) % 4], early = w[(t + 2) % 4], late = w[(t + 3) % 4];
      const __m128i sums =
          _mm_add_epi32(oldest, _mm_load_si128(reinterpret_cast<const __m128i*>(kRounds + 4 * t)));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sums);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sums, 0x0E));
      if (t < 12) {
        const __m128i seventh = _mm_alignr_epi8(late, early, 4);
        oldest = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(oldest, after), seventh), late);
      }
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
  _mm_storeu_si128(memory, _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128(memory + 1, _mm_alignr_epi8(dchg, feba, 8));
}

#elif defined(__aarch64__)

#ifdef __linux__
bool has_instructions() { return (getauxval(AT_HWCAP) >> 6 & 1) != 0; }  // asm/hwcap.h: HWCAP_SHA2
#else
bool has_instructions() { return true; }  // Apple's CPUs
#endif

#ifdef __clang__
__attribute__((target("sha2")))
#else
__attribute__((target("+crypto")))
#endif
void add_by_instructions(uint32_t (&state)[8], const unsigned char* blocks, size_t count) {
  uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
  for (; count > 0; --count, blocks += kSha256Block) {
    const uint32x4_t abcd_before = abcd, efgh_before = efgh;
    uint32x4_t w[4];
    for (int i = 0; i < 4; ++i) w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(blocks + 16 * i)));
#pragma GCC unroll 16
    for (int t = 0; t < 16; ++t) {
      uint32x4_t& oldest = w[t % 4];
      const uint32x4_t after = w[(t + 1) % 4], early = w[(t + 2) % 4], late = w[(t + 3) % 4];
      const uint32x4_t sums = vaddq_u32(oldest, vld1q_u32(kRounds + 4 * t));
      const uint32x4_t abcd_held = abcd;
      abcd = vsha256hq_u32(abcd, efgh, sums);
      efgh = vsha256h2q_u32(efgh, abcd_held, sums);
      if (t < 12) oldest = vsha256su1q_u32(vsha256su0q_u32(oldest, after), early, late);
    }
    abcd = vaddq_u32(abcd, abcd_before);
    efgh = vaddq_u32(efgh, efgh_before);
  }
  vst1q_u32(state, abcd);
  vst1q_u32(state + 4, efgh);
}

#else

bool has_instructions() { return false; }
Sha256Blocks& add_by_instructions = add_sha256_blocks_portably;

#endif

}  // namespace

void add_sha256_blocks_portably(uint32_t (&state)[8], const unsigned char* blocks, size_t count) {
  for (size_t i = 0; i < count; ++i) add_block(state, blocks + kSha256Block * i);
}

void add_sha256_blocks(uint32_t (&state)[8], const unsigned char* blocks, size_t count) {
  static Sha256Blocks* const chosen = has_instructions() ? add_by_instructions : add_sha256_blocks_portably;
  chosen(state, blocks, count);
}

}  // namespace ferrule::executor
