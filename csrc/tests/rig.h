// What kernel tests are made of: random cases that can be repeated, buffers that notice a stray write,
// comparison.
#ifndef FERRULE_TESTS_RIG_H
#define FERRULE_TESTS_RIG_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

namespace ferrule::tests {

// SplitMix64: the same numbers on every platform.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // An integer of [low, high].
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1));
  }
  // A size of [0, highest], small ones and those around multiples of 16 more often than others.
  size_t size(size_t highest);
  bool chance(int one_in) { return integer(1, one_in) == 1; }
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(bits() >> 40) * 0x1p-24f;
  }
  float normal();

 private:
  uint64_t state_;
};

// `count` elements at an address aligned to their type and to nothing more. The memory ends where the
// elements end but for a guard, which `intact` looks at; under AddressSanitizer there is no guard, so that a
// stray read is seen as well.
template <typename T>
class Buffer {
 public:
  Buffer(Random& random, size_t count, T fill = T())
      : count_(count), offset_(static_cast<size_t>(random.integer(0, 7))) {
    memory_.resize((offset_ + count) * sizeof(T) + kGuard, 0xA5);
    memory_.shrink_to_fit();
    for (size_t i = 0; i < count; ++i) data()[i] = fill;
  }
  T* data() { return reinterpret_cast<T*>(memory_.data()) + offset_; }
  const T* data() const { return reinterpret_cast<const T*>(memory_.data()) + offset_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }
  bool intact() const {
    for (size_t i = 0; i < offset_ * sizeof(T); ++i) {
      if (memory_[i] != 0xA5) return false;
    }
    for (size_t i = (offset_ + count_) * sizeof(T); i < memory_.size(); ++i) {
      if (memory_[i] != 0xA5) return false;
    }
    return true;
  }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr size_t kGuard = 0;
#else
  static constexpr size_t kGuard = 64;
#endif
  std::vector<unsigned char> memory_;
  size_t count_;
  size_t offset_;
};

Buffer<float> draw_normal(Random& random, size_t count);
Buffer<int8_t> draw_codes(Random& random, size_t count, int low = -128, int high = 127);

// Whether kernels of this instruction set are run: where this CPU has it, and it is in use or by
// default might be.
bool is_tested(const char* isa);

// One random case of one kernel: `describe` what was drawn, then `expect`.
class Rig {
 public:
  Rig(const char* op, const char* isa, uint64_t seed, bool thin = false)
      : random(seed), thin(thin), op_(op), isa_(isa), seed_(seed) {}

  Random random;
  const bool thin;  // every other row and column of a product of codes is 0 (main.cpp)

  const char* isa() const { return isa_; }
  // printf-like; printed if the case fails.
  void describe(const char* format, ...) __attribute__((format(printf, 2, 3)));
  // got == want within absolute + relative * |want|; NaN equals NaN.
  void expect_close(const char* what, const float* got, const float* want, size_t count, float absolute,
                    float relative);
  // Integers within `distance` of each other.
  void expect_codes(const char* what, const int8_t* got, const int8_t* want, size_t count, int distance = 0);
  void expect(bool holds, const char* what);
  bool failed() const { return failed_; }

 private:
  void fail(const std::string& what);

  const char* op_;
  const char* isa_;
  uint64_t seed_;
  std::string case_;
  bool failed_ = false;
};

}  // namespace ferrule::tests

#endif
