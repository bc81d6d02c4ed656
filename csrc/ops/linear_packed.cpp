#include "ops/linear_packed.h"

#include <string.h>

#include "ferrule/arena.h"
#include "ops/checksum.h"
#include "ops/run.h"

namespace {

using ferrule::ops::is_lookup;
using ferrule::ops::kPanelsOffset;
using ferrule::ops::PackedHeader;

constexpr size_t kDeepest = INT32_MAX / (255 * 128);  // of integer sums, so that int32 holds them

// The row of table.inc for `op` and the layout that it reads.
struct Plan {
  const ferrule_kernel* kernel;
  ferrule_panel_layout layout;
  size_t panel_count;
  size_t bytes;
};

ferrule_status check_spec(const ferrule_linear_spec& spec) {
  if (!ferrule::ops::op_of(spec)) return FERRULE_BAD_TYPE;
  if (spec.input == FERRULE_INPUT_I8_STATIC) {
    if (!(spec.input_scale >= 1e-30f && spec.input_scale <= 1e30f)) return FERRULE_BAD_VALUE;
    if (spec.input_zero < -128 || spec.input_zero > 127) return FERRULE_BAD_VALUE;
  }
  if (!ferrule::ops::fits(spec.rows, spec.depth, sizeof(float))) return FERRULE_TOO_LARGE;
  if (spec.input != FERRULE_INPUT_F32 && spec.depth > kDeepest) return FERRULE_TOO_LARGE;
  if (is_lookup(spec.weight) && spec.group && spec.rows % spec.group != 0) return FERRULE_BAD_SHAPE;
  if (spec.weight == FERRULE_WEIGHT_AFFINE8 && spec.group && spec.group < spec.depth) return FERRULE_BAD_TYPE;
  return FERRULE_OK;
}

ferrule_status make_plan(const ferrule_linear_spec& spec, const char* isa, Plan* plan) {
  if (const ferrule_status status = check_spec(spec)) return status;
  const ferrule_isa_status usable = isa ? ferrule_check_isa(isa) : ferrule_active_isa(&isa);
  if (usable != FERRULE_ISA_USABLE) return FERRULE_BAD_ISA;
  plan->kernel = ferrule_find_kernel(ferrule::ops::op_of(spec), isa);
  if (!plan->kernel) return FERRULE_BAD_TYPE;
  const ferrule_status status =
      ferrule_lay_out_panels(plan->kernel->op, plan->kernel->isa, spec.depth, spec.group, &plan->layout);
  if (status) return status;
  const ferrule_panel_layout& layout = plan->layout;
  const bool has_palettes = is_lookup(spec.weight) && spec.group && spec.group < spec.rows;
  if (has_palettes && spec.group % layout.palette != 0) return FERRULE_BAD_LAYOUT;
  plan->panel_count = spec.rows / layout.columns + (spec.rows % layout.columns != 0);
  if (!ferrule::ops::fits(plan->panel_count + 1, layout.bytes + kPanelsOffset, 1)) return FERRULE_TOO_LARGE;
  plan->bytes = kPanelsOffset + plan->panel_count * layout.bytes;
  return FERRULE_OK;
}

uint64_t sum_header(const PackedHeader& header) {
  return ferrule::ops::checksum(&header, offsetof(PackedHeader, header_sum));
}

bool ends(const char* text, size_t room) { return memchr(text, 0, room) != nullptr; }

ferrule_linear_spec spec_of(const PackedHeader& header) {
  ferrule_linear_spec spec = {};
  spec.weight = static_cast<ferrule_weight_kind>(header.weight);
  spec.input = static_cast<ferrule_input_kind>(header.input);
  spec.sparse24 = static_cast<int>(header.sparse24);
  spec.rows = header.rows;
  spec.depth = header.depth;
  spec.group = header.group;
  spec.input_scale = header.input_scale;
  spec.input_zero = header.input_zero;
  return spec;
}

}  // namespace

const char* ferrule::ops::op_of(const ferrule_linear_spec& spec) {
  const bool floats = spec.input == FERRULE_INPUT_F32;
  if (!floats && spec.input != FERRULE_INPUT_I8_DYNAMIC && spec.input != FERRULE_INPUT_I8_STATIC)
    return nullptr;
  if (spec.sparse24) {
    if (spec.weight == FERRULE_WEIGHT_F32 && floats) return "gemm_sparse_f32";
    return spec.weight == FERRULE_WEIGHT_AFFINE8 && !floats ? "gemm_sparse_i8" : nullptr;
  }
  switch (spec.weight) {
    case FERRULE_WEIGHT_F32:
      return floats ? "gemm_f32" : nullptr;
    case FERRULE_WEIGHT_AFFINE8:
      return floats ? "gemm_f32_i8" : "gemm_i8";
    case FERRULE_WEIGHT_AFFINE4:
      return floats ? "gemm_f32_i4" : "gemm_i4";
    case FERRULE_WEIGHT_LOOKUP4:
      return floats ? "gemm_f32_lut4" : "gemm_lut4";
    case FERRULE_WEIGHT_LOOKUP2:
      return floats ? "gemm_f32_lut2" : "gemm_lut2";
  }
  return nullptr;
}

ferrule_status ferrule::ops::read_packed(const void* memory, size_t bytes, Packed* packed) {
  if (!memory || bytes < kPanelsOffset || reinterpret_cast<uintptr_t>(memory) % FERRULE_ALIGNMENT) {
    return FERRULE_BAD_PACKED;
  }
  const auto& header = *static_cast<const PackedHeader*>(memory);
  if (memcmp(header.magic, kPackedMagic, sizeof(kPackedMagic)) != 0 || header.version != kPackedVersion ||
      header.bytes > bytes || header.header_sum != sum_header(header) ||
      !ends(header.isa, sizeof(header.isa)) || !ends(header.op, sizeof(header.op)) ||
      header.weight > FERRULE_WEIGHT_LOOKUP2 || header.input > FERRULE_INPUT_I8_STATIC) {
    return FERRULE_BAD_PACKED;
  }
  Plan plan;
  packed->spec = spec_of(header);
  if (make_plan(packed->spec, header.isa, &plan) != FERRULE_OK || strcmp(plan.kernel->isa, header.isa) != 0 ||
      strcmp(plan.kernel->op, header.op) != 0 || plan.bytes != header.bytes) {
    return FERRULE_BAD_PACKED;
  }
  packed->header = &header;
  packed->panels = static_cast<const uint8_t*>(memory) + kPanelsOffset;
  packed->layout = plan.layout;
  packed->kernel = reinterpret_cast<ferrule_gemm_fn*>(plan.kernel->function);
  packed->panel_count = plan.panel_count;
  return FERRULE_OK;
}

ferrule_status ferrule_linear_packed_size(const ferrule_linear_spec* spec, const char* isa, size_t* bytes) {
  Plan plan;
  const ferrule_status status = make_plan(*spec, isa, &plan);
  *bytes = status ? 0 : plan.bytes;
  return status;
}

ferrule_status ferrule::ops::pack_layer(const ferrule_linear_spec& spec, const char* isa,
                                        const ferrule_linear_weights& weights, Sealing sealing,
                                        ferrule_pool* pool, void* packed) {
  Plan plan;
  if (const ferrule_status status = make_plan(spec, isa, &plan)) return status;
  if (const ferrule_status status = check_weights(spec, plan.layout, weights)) return status;
  if (!packed) return FERRULE_BAD_SHAPE;
  if (reinterpret_cast<uintptr_t>(packed) % FERRULE_ALIGNMENT) return FERRULE_BAD_LAYOUT;

  auto* bytes = static_cast<uint8_t*>(packed);
  memset(bytes, 0, kPanelsOffset);
  PackedHeader header = {};
  memcpy(header.magic, kPackedMagic, sizeof(header.magic));
  header.version = kPackedVersion;
  header.weight = static_cast<uint32_t>(spec.weight);
  header.input = static_cast<uint32_t>(spec.input);
  header.sparse24 = spec.sparse24 != 0;
  header.rows = spec.rows;
  header.depth = spec.depth;
  header.group = spec.group;
  header.input_scale = spec.input_scale;
  header.input_zero = spec.input_zero;
  strncpy(header.op, plan.kernel->op, sizeof(header.op) - 1);
  strncpy(header.isa, plan.kernel->isa, sizeof(header.isa) - 1);
  header.bytes = plan.bytes;
  header.palette_error = pack_panels(spec, plan.layout, weights, bytes + kPanelsOffset, pool);
  if (sealing == Sealing::kSummed)
    header.panels_sum = checksum(bytes + kPanelsOffset, plan.bytes - kPanelsOffset);
  header.header_sum = sum_header(header);
  memcpy(bytes, &header, sizeof(header));
  return FERRULE_OK;
}

ferrule_status ferrule_linear_pack(const ferrule_linear_spec* spec, const char* isa,
                                   const ferrule_linear_weights* weights, void* packed) {
  return ferrule::ops::pack_layer(*spec, isa, *weights, ferrule::ops::Sealing::kSummed, nullptr, packed);
}

ferrule_status ferrule_linear_check(const void* packed, size_t bytes, int whole, ferrule_linear_info* info) {
  ferrule::ops::Packed read;
  if (const ferrule_status status = ferrule::ops::read_packed(packed, bytes, &read)) return status;
  const size_t content = read.header->bytes - kPanelsOffset;
  if (whole && ferrule::ops::checksum(read.panels, content) != read.header->panels_sum)
    return FERRULE_BAD_PACKED;
  if (info)
    *info = {read.spec, read.header->op, read.header->isa, read.header->bytes, read.header->palette_error};
  return FERRULE_OK;
}
