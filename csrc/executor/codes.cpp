#include "executor/codes.h"

namespace ferrule::executor {

namespace {

template <unsigned kBits, bool kSigned>
void unpack(const unsigned char* from, size_t bytes, unsigned char* to) {
  constexpr size_t kEach = 8 / kBits;
  constexpr unsigned kMask = (1u << kBits) - 1, kSign = kSigned ? 1u << (kBits - 1) : 0;
  for (size_t i = 0; i < bytes; ++i) {
    for (size_t place = 0; place < kEach; ++place) {
      const unsigned code = from[i] >> (place * kBits) & kMask;
      to[i * kEach + place] = static_cast<unsigned char>((code ^ kSign) - kSign);
    }
  }
}

constexpr Packing kPackings[] = {{"int4", 2, Dtype::kInt8, unpack<4, true>},
                                 {"uint4", 2, Dtype::kUint8, unpack<4, false>},
                                 {"uint2", 4, Dtype::kUint8, unpack<2, false>}};

}  // namespace

const Packing* find_packing(const std::string& name) {
  for (const Packing& packing : kPackings) {
    if (name == packing.name) return &packing;
  }
  return nullptr;
}

}  // namespace ferrule::executor
