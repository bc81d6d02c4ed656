// Codes of fewer than 8 bits, several in a byte, the first in the lowest bits, as a program's file holds them
// (sdk/codec.py packs them).
#ifndef FERRULE_EXECUTOR_CODES_H
#define FERRULE_EXECUTOR_CODES_H

#include <stddef.h>

#include <string>

#include "executor/value.h"

namespace ferrule::executor {

struct Packing {
  const char* name;  // "int4"
  size_t per_byte;
  Dtype dtype;  // of a code alone
  void (*unpack)(const unsigned char* from, size_t bytes, unsigned char* to);
};

const Packing* find_packing(const std::string& name);  // NULL where there is none

}  // namespace ferrule::executor

#endif
