// SME's kernels turn ZA on and off: a caller further up that has left its ZA to be saved when needed gets it
// saved.
#include <stdint.h>

#include <vector>

#include "ferrule/dispatch.h"
#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

#ifdef FERRULE_WITH_SME

namespace {

// As the procedure call standard for AArch64 has it.
struct Tpidr2Block {
  void* buffer;
  uint16_t vectors;
  uint8_t reserved[6];
};

uint64_t vector_bytes() {
  uint64_t bytes;
  __asm__(".arch_extension sme\n rdsvl %0, #1" : "=r"(bytes));
  return bytes;
}

// Turns ZA on, fills it and says where it is to be saved.
void leave_za(const std::vector<uint8_t>& values, const Tpidr2Block& block) {
  const uint8_t* read = values.data();
  const uint64_t vectors = block.vectors;
  __asm__ volatile(
      ".arch_extension sme\n"
      "smstart za\n"
      "mov w12, wzr\n"
      "1: ldr za[w12, 0], [%0]\n"
      "addsvl %0, %0, #1\n"
      "add w12, w12, #1\n"
      "cmp x12, %1\n"
      "b.lo 1b\n"
      "msr tpidr2_el0, %2\n"
      : "+r"(read)
      : "r"(vectors), "r"(&block)
      : "x12", "cc", "memory");
}

}  // namespace

bool streaming_passes() {
  if (ferrule_check_isa("sme") != FERRULE_ISA_USABLE) return true;
  const uint64_t bytes = vector_bytes();
  std::vector<uint8_t> values(bytes * bytes), saved(bytes * bytes);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(i * 7 + i / bytes);
  const Tpidr2Block block = {saved.data(), static_cast<uint16_t>(bytes), {}};
  double done = 0, sink = 0;
  const ferrule_peak_args args = {FERRULE_PEAK_FMA, nullptr, 0, &done, &sink};
  leave_za(values, block);
  ferrule_peak_sme(&args, 0, 1, nullptr);
  uint64_t left;
  __asm__ volatile(".arch_extension sme\n mrs %0, tpidr2_el0" : "=r"(left) : : "memory");
  return left == 0 && saved == values;
}

#else

bool streaming_passes() { return true; }

#endif

}  // namespace ferrule::tests
