// The checksum against values of another program that follows its definition, and against changed bytes.
#include "ops/checksum.h"

#include <stdio.h>

#include <string>
#include <vector>

namespace ferrule::tests {

namespace {

std::string bytes_up_to(size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes += static_cast<char>(i * 7 + 3);
  return bytes;
}

uint64_t sum_of(const std::string& bytes) { return ops::checksum(bytes.data(), bytes.size()); }

bool check(bool passed, size_t count, const char* what) {
  if (!passed) fprintf(stderr, "checksum of %zu bytes: %s\n", count, what);
  return passed;
}

// One bit at a time, and a zero more.
bool notices_changes(size_t count) {
  std::string bytes = bytes_up_to(count);
  const uint64_t sum = sum_of(bytes);
  bool passed = check(sum_of(bytes + '\0') != sum, count, "a byte more is not noticed");
  for (size_t bit = 0; bit < 8 * count; ++bit) {
    const auto flip = static_cast<char>(1 << bit % 8);
    bytes[bit / 8] ^= flip;
    passed = check(sum_of(bytes) != sum, count, "a flipped bit is not noticed") && passed;
    bytes[bit / 8] ^= flip;
  }
  return passed;
}

}  // namespace

bool checksum_passes() {
  const struct {
    size_t count;
    uint64_t sum;
  } examples[] = {{0, 0xc750561c2e3b95c1},  {1, 0x845daa81f5983a15},  {8, 0xff932fe9328d5d94},
                  {63, 0xf54194ede684c14e}, {64, 0x5e1adc8762da4e74}, {65, 0xc6d9a0c159ad3ac8},
                  {200, 0x8ec3a4e5da126cb0}};
  bool passed = true;
  for (const auto& [count, sum] : examples)
    passed = check(sum_of(bytes_up_to(count)) == sum, count, "not as defined") && passed;
  for (const size_t count : {1, 7, 8, 9, 63, 64, 65, 127, 128, 300})
    passed = notices_changes(count) && passed;
  return passed;
}

}  // namespace ferrule::tests
