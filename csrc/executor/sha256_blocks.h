// What SHA-256 makes of whole blocks, by the instructions for it where the processor has them.
#ifndef FERRULE_EXECUTOR_SHA256_BLOCKS_H
#define FERRULE_EXECUTOR_SHA256_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

namespace ferrule::executor {

constexpr size_t kSha256Block = 64;  // bytes

using Sha256Blocks = void(uint32_t (&state)[8], const unsigned char* blocks, size_t count);

Sha256Blocks add_sha256_blocks;           // the fastest that the processor has
Sha256Blocks add_sha256_blocks_portably;  // in C++ alone

}  // namespace ferrule::executor

#endif
