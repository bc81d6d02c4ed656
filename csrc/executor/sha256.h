// SHA-256 as FIPS 180-4 defines it.
#ifndef FERRULE_EXECUTOR_SHA256_H
#define FERRULE_EXECUTOR_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include <string>

namespace ferrule::executor {

class Sha256 {
 public:
  void add(const void* bytes, size_t count);
  std::string finish();  // 64 hexadecimal digits, small letters; to be called once

 private:
  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint64_t bytes_ = 0;
  unsigned char pending_[64];  // bytes_ % 64 of them
};

}  // namespace ferrule::executor

#endif
