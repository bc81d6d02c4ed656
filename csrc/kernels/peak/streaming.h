// The peaks of sme and sme_i8; the file of each defines add_products, of an instruction for each tile of ZA.
#include <arm_sme.h>
#include <stddef.h>
#include <stdint.h>

#include "simd/streaming.h"

namespace {

constexpr size_t kRounds = 4096;
constexpr size_t kTiles = 4;

void add_products() __arm_streaming __arm_inout("za");

struct StreamedRounds {
  size_t rounds;
  size_t* lanes;  // of 32 bits, in streaming mode
};

void run_rounds(const void* opaque) __arm_streaming __arm_inout("za") {
  const auto& work = *static_cast<const StreamedRounds*>(opaque);
  svzero_za();
  for (size_t i = 0; i < work.rounds; ++i) add_products();
  *work.lanes = svcntw();
}

// `products` of each lane of a tile.
void run_peak(const ferrule_peak_args& args, size_t units, size_t products) {
  size_t lanes = 0;
  const StreamedRounds work = {units * kRounds, &lanes};
  run_streaming(run_rounds, &work);
  *args.done += static_cast<double>(work.rounds * kTiles * lanes * lanes * products) * 2;
}

}  // namespace
