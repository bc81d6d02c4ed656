#include "ferrule/linear.h"

#include <math.h>

#include <atomic>

#include "ferrule/arena.h"
#include "ferrule/quantize_rows.h"
#include "ops/linear_packed.h"
#include "ops/run.h"

namespace {

using ferrule::ops::choose_tasks;
using ferrule::ops::fits;
using ferrule::ops::Packed;
using ferrule::ops::part_begin;
using ferrule::ops::round_up;

// Bytes of rows that are multiplied at a time: they stay in the second-level cache beside a panel, of which
// float kernels hold a part only.
constexpr size_t kCodeBlockBytes = 512 * 1024;
constexpr size_t kFloatBlockBytes = 1536 * 1024;
constexpr size_t kSmallestBlock = 64;      // rows for which unpacking a panel hardly counts
constexpr size_t kRowsOfThread = 32;       // or more: each thread can have rows of its own
constexpr size_t kSmallestTask = 1 << 17;  // products: some microseconds of reading for one row

// How the scratch memory is divided.
struct Scratch {
  size_t codes_stride, scales, zeros, kernels, kernel_bytes, bytes;
};

bool divide_scratch(const Packed& packed, size_t m, size_t threads, Scratch* scratch) {
  const bool floats = packed.layout.input == FERRULE_GEMM_F32;
  *scratch = {};
  // A stride of an odd number of cache lines, so that the rows of a tile do not fall into the same sets.
  const size_t lines = packed.layout.padded / FERRULE_ALIGNMENT + 1;
  scratch->codes_stride = floats ? 0 : (lines | 1) * FERRULE_ALIGNMENT;
  scratch->kernel_bytes = round_up(ferrule_gemm_scratch(&packed.layout), FERRULE_ALIGNMENT);
  if (!fits(m + FERRULE_ALIGNMENT, scratch->codes_stride + 16, 1)) return false;
  if (!fits(threads, scratch->kernel_bytes, 1)) return false;
  scratch->scales = m * scratch->codes_stride;
  scratch->zeros = scratch->scales + (floats ? 0 : round_up(m * sizeof(float), FERRULE_ALIGNMENT));
  scratch->kernels = scratch->zeros + (floats ? 0 : round_up(m * sizeof(int32_t), FERRULE_ALIGNMENT));
  return !__builtin_add_overflow(scratch->kernels, threads * scratch->kernel_bytes, &scratch->bytes);
}

ferrule_status check(const ferrule_linear_args& args, const Packed& packed, const void* scratch) {
  const ferrule_epilogue& epilogue = args.epilogue;
  const size_t element = epilogue.output_scale == 0 ? sizeof(float) : 1;
  if (epilogue.activation < FERRULE_ACTIVATION_NONE || epilogue.activation > FERRULE_ACTIVATION_HARD_SWISH) {
    return FERRULE_BAD_TYPE;
  }
  if (!isfinite(epilogue.output_scale) || epilogue.output_scale < 0) return FERRULE_BAD_VALUE;
  if (epilogue.output_scale != 0 && (epilogue.output_zero < -128 || epilogue.output_zero > 127)) {
    return FERRULE_BAD_VALUE;
  }
  if (args.m == 0 || packed.spec.rows == 0) return FERRULE_OK;
  if (!args.output || !scratch || (!args.input && packed.spec.depth)) return FERRULE_BAD_SHAPE;
  if (reinterpret_cast<uintptr_t>(scratch) % FERRULE_ALIGNMENT) return FERRULE_BAD_LAYOUT;
  if (args.input_stride < packed.spec.depth || args.output_stride < packed.spec.rows)
    return FERRULE_BAD_LAYOUT;
  if (epilogue.residual && epilogue.residual_stride < packed.spec.rows) return FERRULE_BAD_LAYOUT;
  if (!fits(args.m, args.input_stride, sizeof(float)) || !fits(args.m, args.output_stride, element)) {
    return FERRULE_TOO_LARGE;
  }
  if (epilogue.residual && !fits(args.m, epilogue.residual_stride, sizeof(float))) return FERRULE_TOO_LARGE;
  return FERRULE_OK;
}

ferrule_gemm_args make_gemm(const ferrule_linear_args& args, const Packed& packed) {
  ferrule_gemm_args gemm = {};
  gemm.input = args.input;
  gemm.input_stride = args.input_stride;
  gemm.packed = packed.panels;
  gemm.output = args.output;
  gemm.output_stride = args.output_stride;
  gemm.m = args.m;
  gemm.n = packed.spec.rows;
  gemm.layout = packed.layout;
  gemm.epilogue = args.epilogue;
  return gemm;
}

// The codes of all rows, which `gemm` is to read.
ferrule_quantize_rows_args describe_codes(const ferrule_linear_args& args, const Packed& packed,
                                          const Scratch& parts, uint8_t* scratch, ferrule_gemm_args* gemm) {
  ferrule_quantize_rows_args rows = {};
  rows.input = args.input;
  rows.codes = scratch;
  rows.scales = reinterpret_cast<float*>(scratch + parts.scales);
  rows.zeros = reinterpret_cast<int32_t*>(scratch + parts.zeros);
  rows.input_stride = args.input_stride;
  rows.codes_stride = parts.codes_stride;
  rows.rows = args.m;
  rows.width = packed.spec.depth;
  rows.padded = packed.layout.padded;
  rows.is_signed = packed.layout.input == FERRULE_GEMM_S8;
  if (packed.spec.input == FERRULE_INPUT_I8_STATIC) {
    rows.range_scale = packed.spec.input_scale;
    rows.range_zero = packed.spec.input_zero;
  }
  gemm->input = rows.codes;
  gemm->input_stride = rows.codes_stride;
  gemm->input_scales = rows.scales;
  gemm->input_zeros = rows.zeros;
  return rows;
}

// Makes the codes of rows [first, first + count).
ferrule_status quantize(const ferrule_quantize_rows_args& all, size_t first, size_t count, const char* isa,
                        ferrule_pool* pool) {
  ferrule_quantize_rows_args part = all;
  part.input += first * all.input_stride;
  part.codes = static_cast<uint8_t*>(all.codes) + first * all.codes_stride;
  part.scales += first;
  part.zeros += first;
  part.rows = count;
  return ferrule_quantize_rows(&part, isa, pool);
}

// Tasks are blocks of rows times parts of the panels.
struct Grid {
  const Packed* packed;
  const ferrule_gemm_args* gemm;
  size_t panel_tasks, rows_a_block;
  uint8_t* scratch;
  size_t scratch_bytes;
  const ferrule_quantize_rows_args* codes;  // that each task makes of its own rows; NULL for none
  std::atomic<ferrule_status> status{FERRULE_OK};
};

// The product of rows [first, first + count) alone.
ferrule_gemm_args take_rows(const ferrule_gemm_args& all, size_t first, size_t count) {
  ferrule_gemm_args part = all;
  const size_t input_bytes = all.layout.input == FERRULE_GEMM_F32 ? sizeof(float) : 1;
  const size_t output_bytes = all.epilogue.output_scale == 0 ? sizeof(float) : 1;
  part.input = static_cast<const uint8_t*>(all.input) + first * all.input_stride * input_bytes;
  part.output = static_cast<uint8_t*>(all.output) + first * all.output_stride * output_bytes;
  if (all.input_scales) part.input_scales = all.input_scales + first;
  if (all.input_zeros) part.input_zeros = all.input_zeros + first;
  if (all.epilogue.residual)
    part.epilogue.residual = all.epilogue.residual + first * all.epilogue.residual_stride;
  part.m = count;
  return part;
}

void run_task(void* opaque, size_t index, size_t worker) {
  Grid& grid = *static_cast<Grid*>(opaque);
  const size_t first = index / grid.panel_tasks * grid.rows_a_block;
  const size_t part = index % grid.panel_tasks, rest = grid.gemm->m - first;
  const size_t rows = rest < grid.rows_a_block ? rest : grid.rows_a_block, panels = grid.packed->panel_count;
  if (grid.codes) {
    const ferrule_status status = quantize(*grid.codes, first, rows, grid.packed->header->isa, nullptr);
    if (status) return grid.status.store(status);
  }
  ferrule_gemm_args block = take_rows(*grid.gemm, first, rows);
  block.uniform =
      grid.packed->spec.input == FERRULE_INPUT_I8_STATIC && ferrule::ops::all_equal(block.input_scales, rows);
  grid.packed->kernel(&block, part_begin(panels, grid.panel_tasks, part),
                      part_begin(panels, grid.panel_tasks, part + 1),
                      grid.scratch + worker * grid.scratch_bytes);
}

// Blocks of equal size of rows that fit the cache and are no more than `wanted`.
size_t choose_block(const ferrule_gemm_args& gemm, size_t wanted) {
  const bool floats = gemm.layout.input == FERRULE_GEMM_F32;
  const size_t row_bytes = gemm.layout.depth * (floats ? sizeof(float) : 1) + 1;
  const size_t fitting = (floats ? kFloatBlockBytes : kCodeBlockBytes) / row_bytes;
  const size_t most = fitting < kSmallestBlock ? kSmallestBlock : fitting;
  const size_t blocks = (gemm.m + most - 1) / most, count = blocks < wanted ? wanted : blocks;
  return (gemm.m + count - 1) / count;
}

// Where there are rows enough, a thread has the same ones in this op as in those before and after, and makes
// their codes itself: what it reads is in its own cache, and it waits for no other. Else each has some panels
// for all rows.
ferrule_status multiply(const Packed& packed, const ferrule_gemm_args& gemm, const Scratch& parts,
                        uint8_t* scratch, const ferrule_quantize_rows_args* codes, ferrule_pool* pool) {
  const size_t threads = ferrule_pool_threads(pool);
  const bool by_rows = threads > 1 && gemm.m >= threads * kRowsOfThread;
  Grid grid = {&packed,
               &gemm,
               1,
               choose_block(gemm, by_rows ? 2 * threads : 1),
               scratch + parts.kernels,
               parts.kernel_bytes,
               nullptr};
  const size_t blocks = (gemm.m + grid.rows_a_block - 1) / grid.rows_a_block;
  if (by_rows) {
    grid.codes = codes;
  } else {
    if (codes) {
      if (const ferrule_status status = quantize(*codes, 0, codes->rows, packed.header->isa, pool))
        return status;
    }
    const size_t products = grid.rows_a_block * gemm.layout.columns * (gemm.layout.depth + 1);
    const size_t tasks = choose_tasks(packed.panel_count * blocks, kSmallestTask / products + 1, pool);
    const size_t wanted = (tasks + blocks - 1) / blocks;
    grid.panel_tasks = wanted < packed.panel_count ? wanted : packed.panel_count;
  }
  ferrule_pool_run(pool, blocks * grid.panel_tasks, run_task, &grid);
  return grid.status.load();
}

}  // namespace

size_t ferrule_linear_scratch(const void* packed, size_t packed_bytes, size_t m, size_t threads) {
  Packed read;
  Scratch parts;
  if (ferrule::ops::read_packed(packed, packed_bytes, &read) != FERRULE_OK) return 0;
  return divide_scratch(read, m, threads, &parts) ? parts.bytes : 0;
}

ferrule_status ferrule_linear(const ferrule_linear_args* args, void* scratch, ferrule_pool* pool) {
  Packed packed;
  if (const ferrule_status status = ferrule::ops::read_packed(args->packed, args->packed_bytes, &packed))
    return status;
  if (const ferrule_status status = check(*args, packed, scratch)) return status;
  if (args->m == 0 || packed.spec.rows == 0) return FERRULE_OK;
  Scratch parts;
  if (!divide_scratch(packed, args->m, ferrule_pool_threads(pool), &parts)) return FERRULE_TOO_LARGE;
  ferrule_gemm_args gemm = make_gemm(*args, packed);
  auto* memory = static_cast<uint8_t*>(scratch);
  if (packed.layout.input == FERRULE_GEMM_F32) return multiply(packed, gemm, parts, memory, nullptr, pool);
  const ferrule_quantize_rows_args codes = describe_codes(*args, packed, parts, memory, &gemm);
  return multiply(packed, gemm, parts, memory, &codes, pool);
}
