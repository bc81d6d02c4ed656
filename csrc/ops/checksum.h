// A checksum of bytes in memory, as fast as they are read.
#ifndef FERRULE_OPS_CHECKSUM_H
#define FERRULE_OPS_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

namespace ferrule::ops {

// Of `count` bytes, taken as words of 64 bits, little end first, the last one filled up with zeros. Bytes of
// one length that differ in a single word never have the same sum. No defence against forgery.
uint64_t checksum(const void* bytes, size_t count);

}  // namespace ferrule::ops

#endif
