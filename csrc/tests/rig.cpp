#include "tests/rig.h"

#include <stdarg.h>
#include <stdio.h>

#include <algorithm>

#include "ferrule/dispatch.h"

namespace ferrule::tests {

size_t Random::size(size_t highest) {
  const auto top = static_cast<int64_t>(highest);
  switch (integer(0, 9)) {
    case 0:
      return static_cast<size_t>(integer(0, std::min<int64_t>(top, 1)));
    case 1:
    case 2:
    case 3:
      return static_cast<size_t>(integer(0, std::min<int64_t>(top, 20)));
    case 4:
    case 5:
    case 6: {
      const int64_t around = 16 * integer(0, top / 16) + integer(-1, 1);
      return static_cast<size_t>(std::clamp<int64_t>(around, 0, top));
    }
    default:
      return static_cast<size_t>(integer(0, top));
  }
}

float Random::normal() {
  // Box and Muller; the first uniform is never zero.
  const double radius = sqrt(-2 * log((static_cast<double>(bits() >> 11) + 1) * 0x1p-53));
  return static_cast<float>(radius * cos(6.283185307179586 * static_cast<double>(bits() >> 11) * 0x1p-53));
}

Buffer<float> draw_normal(Random& random, size_t count) {
  Buffer<float> buffer(random, count);
  for (size_t i = 0; i < count; ++i) buffer[i] = random.normal();
  return buffer;
}

Buffer<int8_t> draw_codes(Random& random, size_t count, int low, int high) {
  Buffer<int8_t> buffer(random, count);
  for (size_t i = 0; i < count; ++i) buffer[i] = static_cast<int8_t>(random.integer(low, high));
  return buffer;
}

bool is_tested(const char* isa) {
  const char* active = nullptr;
  ferrule_active_isa(&active);
  return ferrule_check_isa(isa) == FERRULE_ISA_USABLE &&
         (ferrule_isa_by_default(isa) || strcmp(isa, active) == 0);
}

void Rig::describe(const char* format, ...) {
  char text[512];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof(text), format, values);
  va_end(values);
  case_ = text;
}

void Rig::fail(const std::string& what) {
  if (!failed_) {
    printf("FAILED %s %s, seed %llu (%s): %s\n", op_, isa_, static_cast<unsigned long long>(seed_),
           case_.c_str(), what.c_str());
  }
  failed_ = true;
}

void Rig::expect(bool holds, const char* what) {
  if (!holds) fail(what);
}

void Rig::expect_close(const char* what, const float* got, const float* want, size_t count, float absolute,
                       float relative) {
  for (size_t i = 0; i < count; ++i) {
    if (isnan(got[i]) && isnan(want[i])) continue;
    if (got[i] == want[i]) continue;  // infinities
    if (!(fabsf(got[i] - want[i]) <= absolute + relative * fabsf(want[i]))) {
      char text[160];
      snprintf(text, sizeof(text), "%s[%zu] is %.9g, the reference has %.9g", what, i,
               static_cast<double>(got[i]), static_cast<double>(want[i]));
      return fail(text);
    }
  }
}

void Rig::expect_codes(const char* what, const int8_t* got, const int8_t* want, size_t count, int distance) {
  for (size_t i = 0; i < count; ++i) {
    if (abs(got[i] - want[i]) > distance) {
      char text[160];
      snprintf(text, sizeof(text), "%s[%zu] is %d, the reference has %d", what, i, got[i], want[i]);
      return fail(text);
    }
  }
}

}  // namespace ferrule::tests
