// Times every kernel of the table on one thread, against this machine's peaks measured in the same run.
//
//   ferrule_bench [--only TEXT] [--isa ISA] [--seconds S] [--once 1]
#include "bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <algorithm>

#include "ferrule/arena.h"
#include "ferrule/dispatch.h"
#include "kernels/declarations.h"

// What runs between the two is counted by bench/arm/count.cpp.
extern "C" {
__attribute__((noinline)) void ferrule_bench_begin() { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) void ferrule_bench_end() { __asm__ volatile("" ::: "memory"); }
}

namespace ferrule::bench {

#define FERRULE_KERNEL(op, isa, function) void bench_##op(Bench& bench, ferrule_##op##_fn* kernel);
#include "kernels/table.inc"
#undef FERRULE_KERNEL

void bench_conv_f32(Bench& bench);
void bench_conv_i8(Bench& bench);
void bench_linear(Bench& bench);

namespace {

struct Row {
  const char* op;
  const char* isa;
  void (*run)(Bench& bench);
};

const Row kRows[] = {
#define FERRULE_KERNEL(op, isa, function) {#op, #isa, [](Bench& bench) { bench_##op(bench, function); }},
#include "kernels/table.inc"
#undef FERRULE_KERNEL
};

// Whole ops, which choose their kernels themselves.
const Row kOps[] = {{"linear", "avx512", bench_linear},    {"linear", "avx2", bench_linear},
                    {"linear", "dotprod", bench_linear},   {"linear", "i8mm", bench_linear},
                    {"linear", "neon", bench_linear},      {"conv_f32", "avx512", bench_conv_f32},
                    {"conv_f32", "avx2", bench_conv_f32},  {"conv_f32", "neon", bench_conv_f32},
                    {"conv_i8", "avx512", bench_conv_i8},  {"conv_i8", "avx2", bench_conv_i8},
                    {"conv_i8", "dotprod", bench_conv_i8}, {"conv_i8", "i8mm", bench_conv_i8},
                    {"conv_i8", "neon", bench_conv_i8}};

double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

uint64_t next(uint64_t& state) {
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Operations of the shapes that --once 1 runs, under QEMU.
constexpr double kMostCounted = 2e8;

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace

std::vector<float> draw_floats(size_t count, uint64_t seed) {
  std::vector<float> values(count);
  for (float& value : values) {
    // The sum of four uniforms is near enough to a normal distribution for timing.
    float sum = -2;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(next(seed) >> 40) * 0x1p-24f;
    value = sum * 1.7f;
  }
  return values;
}

std::vector<uint8_t> draw_bytes(size_t count, uint64_t seed) {
  std::vector<uint8_t> values(count);
  for (uint8_t& value : values) value = static_cast<uint8_t>(next(seed) >> 56);
  return values;
}

bool Bench::skips(const Work& work) const { return once_ && work.float_ops + work.int8_ops > kMostCounted; }

void Bench::time(const std::string& shape, const Work& work, const std::function<void(size_t)>& body) {
  if (skips(work)) return;
  if (once_) {
    ferrule_bench_begin();
    body(0);
    ferrule_bench_end();
    printf("%-16s %-8s %s\n", op_, isa_, shape.c_str());
    return;
  }
  body(0);
  double start = now();
  body(1);
  const double guess = std::max(now() - start, 1e-8);
  // Samples of at least 50 us, so that reading the clock does not count.
  const auto calls = static_cast<size_t>(std::max(1.0, 5e-5 / guess));
  std::vector<double> samples;
  size_t round = 2;
  const double end = now() + seconds_;
  while (now() < end || samples.size() < 5) {
    start = now();
    for (size_t i = 0; i < calls; ++i) body(round++);
    samples.push_back((now() - start) / static_cast<double>(calls));
  }
  const double seconds = median(samples);
  printf("%-16s %-8s %-34s %10.2f us", op_, isa_, shape.c_str(), seconds * 1e6);
  if (work.int8_ops > 0) printf("  %7.1f GOP/s", work.int8_ops / seconds * 1e-9);
  if (work.float_ops > 0) printf("  %7.1f GFLOP/s", work.float_ops / seconds * 1e-9);
  if (work.bytes > 0) printf("  %7.1f GB/s", work.bytes / seconds * 1e-9);
  printf("\n");
  fflush(stdout);
}

void bench_peak(Bench& bench, ferrule_peak_fn* kernel) {
  double done = 0, sink = 0;
  ferrule_peak_args args = {FERRULE_PEAK_FMA, nullptr, 0, &done, &sink};
  kernel(&args, 0, 1, nullptr);
  bench.time("float32 multiply-add", {done, 0, 0}, [&](size_t) { kernel(&args, 0, 1, nullptr); });
  done = 0;
  args.kind = FERRULE_PEAK_DOT_I8;
  kernel(&args, 0, 1, nullptr);
  bench.time("int8 products", {0, done, 0}, [&](size_t) { kernel(&args, 0, 1, nullptr); });
  done = 0;
  args.kind = FERRULE_PEAK_DOT_BF16;
  kernel(&args, 0, 1, nullptr);
  if (done > 0) bench.time("bfloat16 products", {done, 0, 0}, [&](size_t) { kernel(&args, 0, 1, nullptr); });
  args.kind = FERRULE_PEAK_READ;
  for (const size_t kilobytes : {32, 1024, 8192, 131072}) {
    ferrule_arena arena;
    if (!ferrule_arena_create(&arena, kilobytes * 1024)) return;
    std::fill_n(arena.memory, arena.capacity, static_cast<unsigned char>(1));
    args.memory = arena.memory;
    args.bytes = arena.capacity;
    const std::string shape = "read " + std::to_string(kilobytes) + " KB";
    bench.time(shape, {0, 0, static_cast<double>(args.bytes)}, [&](size_t) { kernel(&args, 0, 1, nullptr); });
    ferrule_arena_destroy(&arena);
  }
}

namespace {

int run_all(int count, char** words) {
  std::string only, wanted;
  double seconds = 0.3;
  bool once = false;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = words[i];
    if (name == "--only")
      only = words[i + 1];
    else if (name == "--isa")
      wanted = words[i + 1];
    else if (name == "--seconds")
      seconds = atof(words[i + 1]);
    else if (name == "--once")
      once = atoi(words[i + 1]) != 0;
    else
      return fprintf(stderr, "unknown option %s\n", words[i]), 2;
  }
  const auto run = [&](const Row& row) {
    if (std::string(row.op).find(only) == std::string::npos || (!wanted.empty() && wanted != row.isa)) return;
    if (ferrule_check_isa(row.isa) != FERRULE_ISA_USABLE) return;
    Bench bench(row.op, row.isa, once, seconds);
    row.run(bench);
  };
  for (const Row& row : kRows) run(row);
  for (const Row& row : kOps) run(row);
  return 0;
}

}  // namespace

}  // namespace ferrule::bench

int main(int count, char** words) { return ferrule::bench::run_all(count, words); }
