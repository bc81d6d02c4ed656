// The header in front of a packed linear layer.
#ifndef FERRULE_OPS_LINEAR_PACKED_H
#define FERRULE_OPS_LINEAR_PACKED_H

#include "ferrule/linear.h"
#include "ops/panels.h"

namespace ferrule::ops {

// Of header, panels and tiles together; raised with any change of them.
constexpr uint32_t kPackedVersion = 2;
constexpr char kPackedMagic[8] = {'F', 'E', 'R', 'R', 'L', 'I', 'N', '\0'};

// In the byte order of the machine, as the panels are; no two instruction sets that differ in it share a
// name.
struct PackedHeader {
  char magic[8];
  uint32_t version;
  uint32_t weight, input, sparse24;
  uint64_t rows, depth, group;
  float input_scale;
  int32_t input_zero;
  float palette_error;
  uint32_t unused;
  char op[16];
  char isa[8];
  uint64_t bytes;       // header and panels
  uint64_t panels_sum;  // checksum of the panels; 0 where they were not to be kept
  uint64_t header_sum;  // checksum of the fields above
};
static_assert(sizeof(PackedHeader) == 112, "no padding");
constexpr size_t kPanelsOffset = 128;  // the first multiple of FERRULE_ALIGNMENT behind the header

// A checked header with what follows from it.
struct Packed {
  const PackedHeader* header;
  const uint8_t* panels;
  ferrule_linear_spec spec;
  ferrule_panel_layout layout;
  ferrule_gemm_fn* kernel;
  size_t panel_count;
};

// Name of the kernel of a spec; NULL for a combination that there is none for.
const char* op_of(const ferrule_linear_spec& spec);

ferrule_status read_packed(const void* memory, size_t bytes, Packed* packed);

// FERRULE_BAD_SHAPE, FERRULE_BAD_VALUE as ferrule_linear_pack has them.
ferrule_status check_weights(const ferrule_linear_spec& spec, const ferrule_panel_layout& layout,
                             const ferrule_linear_weights& weights);

// Whether packed weights are kept somewhere, and must show that they are whole when they are used again.
enum class Sealing : uint8_t { kNone, kSummed };

// As ferrule_linear_pack, on the threads of a pool.
ferrule_status pack_layer(const ferrule_linear_spec& spec, const char* isa,
                          const ferrule_linear_weights& weights, Sealing sealing, ferrule_pool* pool,
                          void* packed);

// As ferrule_conv_pack, on the threads of a pool.
ferrule_status pack_layers(const ferrule_linear_spec& spec, size_t groups, const char* isa,
                           const ferrule_linear_weights& weights, Sealing sealing, ferrule_pool* pool,
                           void* packed);

}  // namespace ferrule::ops

#endif
