// The part of a selective scan that a unit of work is. Internal linkage: included by every kernel of the op.
#ifndef FERRULE_KERNELS_SELECTIVE_SCAN_BLOCK_H
#define FERRULE_KERNELS_SELECTIVE_SCAN_BLOCK_H

#include "ferrule/selective_scan.h"

namespace {

struct Block {
  size_t batch, group;
  size_t channel;  // the first one
  size_t count;    // of channels, at most FERRULE_SCAN_CHANNELS
};

inline Block find_block(const ferrule_selective_scan_args& args, size_t unit) {
  const size_t share = args.channels / args.groups;
  const size_t blocks = (share + FERRULE_SCAN_CHANNELS - 1) / FERRULE_SCAN_CHANNELS;
  const size_t first = unit % blocks * FERRULE_SCAN_CHANNELS;
  Block block;
  block.batch = unit / blocks / args.groups;
  block.group = unit / blocks % args.groups;
  block.channel = block.group * share + first;
  block.count = share - first < FERRULE_SCAN_CHANNELS ? share - first : FERRULE_SCAN_CHANNELS;
  return block;
}

inline size_t offset_of(const ferrule_scan_strides& strides, const Block& block) {
  return block.batch * strides.batch + block.channel * strides.channel;
}

inline size_t offset_of(const ferrule_scan_group_strides& strides, const Block& block) {
  return block.batch * strides.batch + block.group * strides.group;
}

}  // namespace

#endif
