#include "bench/gemm.h"

#include <string.h>

#include <algorithm>

#include "ferrule/arena.h"
#include "kernels/declarations.h"

namespace ferrule::bench {

namespace {

struct Shape {
  size_t m, k, n;
};

// Decoding and short batches, MiniLM, ViT-B, and square ones; and odd sizes.
const Shape kShapes[] = {{1, 2048, 2048},  {1, 2048, 8192},  {4, 2048, 2048},  {1, 576, 1536},
                         {64, 768, 768},   {128, 384, 1536}, {128, 768, 3072}, {128, 2048, 2048},
                         {197, 768, 3072}, {512, 768, 768},  {67, 501, 333}};

}  // namespace

void bench_gemm(Bench& bench, const char* op, size_t group, ferrule_gemm_fn* kernel) {
  for (const Shape& shape : kShapes) {
    const size_t m = shape.m, k = shape.k, n = shape.n;
    ferrule_gemm_args args = {};
    if (ferrule_lay_out_panels(op, bench.isa(), k, group, &args.layout) != FERRULE_OK) return;
    const ferrule_panel_layout& layout = args.layout;
    const size_t panels = (n + layout.columns - 1) / layout.columns, bytes = panels * layout.bytes;
    const size_t copies = (16 << 20) / bytes + 2;
    ferrule_arena arena;
    if (!ferrule_arena_create(&arena, copies * bytes + ferrule_gemm_scratch(&layout) + m * n * 4 + 4096))
      return;
    auto* packed = static_cast<uint8_t*>(ferrule_arena_take(&arena, copies * bytes));
    const std::vector<uint8_t> random = draw_bytes(layout.bits == 32 ? 0 : bytes);
    const std::vector<float> weights = draw_floats(layout.bits == 32 ? bytes / sizeof(float) : 0);
    for (size_t i = 0; i < copies; ++i) {
      memcpy(packed + i * bytes, layout.bits == 32 ? static_cast<const void*>(weights.data()) : random.data(),
             bytes);
    }
    // Sections that are read as float32 must not hold random bits: denormals are slow.
    for (size_t p = 0; p < copies * panels; ++p) {
      memset(packed + p * layout.bytes + layout.group_scales, 0, layout.bytes - layout.group_scales);
    }
    void* scratch = ferrule_arena_take(&arena, ferrule_gemm_scratch(&layout));
    args.output = ferrule_arena_take(&arena, m * n * 4);

    args.input_stride = (layout.padded / 64 | 1) * 64 + 64;
    const std::vector<uint8_t> codes = draw_bytes(m * args.input_stride);
    const std::vector<float> values = draw_floats(m * args.input_stride), scales(m, 0.01f);
    const std::vector<int32_t> zeros(m, 100);
    args.input = layout.input == FERRULE_GEMM_F32 ? static_cast<const void*>(values.data()) : codes.data();
    args.input_scales = scales.data();
    args.input_zeros = zeros.data();
    args.output_stride = n;
    args.m = m;
    args.n = n;
    const double products = 2.0 * static_cast<double>(m * n * k);
    Work work;
    (layout.input == FERRULE_GEMM_F32 ? work.float_ops : work.int8_ops) = products;
    if (m < 8) work.bytes = static_cast<double>(bytes);
    std::string name = std::to_string(m) + " x " + std::to_string(k) + " x " + std::to_string(n);
    if (layout.groups) name += " g" + std::to_string(group);
    bench.time(name, work, [&](size_t round) {
      args.packed = packed + round % copies * bytes;
      kernel(&args, 0, panels, scratch);
    });
    ferrule_arena_destroy(&arena);
  }
}

void bench_gemm_i8(Bench& bench, ferrule_gemm_i8_fn* kernel) { bench_gemm(bench, "gemm_i8", 0, kernel); }

void bench_gemm_i4(Bench& bench, ferrule_gemm_i4_fn* kernel) {
  bench_gemm(bench, "gemm_i4", 0, kernel);
  bench_gemm(bench, "gemm_i4", 32, kernel);
  bench_gemm(bench, "gemm_i4", 128, kernel);
}

void bench_gemm_lut4(Bench& bench, ferrule_gemm_lut4_fn* kernel) {
  bench_gemm(bench, "gemm_lut4", 0, kernel);
}

void bench_gemm_lut2(Bench& bench, ferrule_gemm_lut2_fn* kernel) {
  bench_gemm(bench, "gemm_lut2", 0, kernel);
}

void bench_gemm_f32(Bench& bench, ferrule_gemm_f32_fn* kernel) { bench_gemm(bench, "gemm_f32", 0, kernel); }

void bench_gemm_f32_i8(Bench& bench, ferrule_gemm_f32_i8_fn* kernel) {
  bench_gemm(bench, "gemm_f32_i8", 0, kernel);
}

void bench_gemm_f32_i4(Bench& bench, ferrule_gemm_f32_i4_fn* kernel) {
  bench_gemm(bench, "gemm_f32_i4", 0, kernel);
  bench_gemm(bench, "gemm_f32_i4", 32, kernel);
}

void bench_gemm_f32_lut4(Bench& bench, ferrule_gemm_f32_lut4_fn* kernel) {
  bench_gemm(bench, "gemm_f32_lut4", 0, kernel);
}

void bench_gemm_f32_lut2(Bench& bench, ferrule_gemm_f32_lut2_fn* kernel) {
  bench_gemm(bench, "gemm_f32_lut2", 0, kernel);
}

void bench_gemm_sparse_f32(Bench& bench, ferrule_gemm_sparse_f32_fn* kernel) {
  bench_gemm(bench, "gemm_sparse_f32", 0, kernel);
}

void bench_gemm_sparse_i8(Bench& bench, ferrule_gemm_sparse_i8_fn* kernel) {
  bench_gemm(bench, "gemm_sparse_i8", 0, kernel);
}

}  // namespace ferrule::bench
