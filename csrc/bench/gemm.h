// What the benchmarks of all gemm kernels share.
#ifndef FERRULE_BENCH_GEMM_H
#define FERRULE_BENCH_GEMM_H

#include "bench/bench.h"
#include "ferrule/gemm.h"

namespace ferrule::bench {

// The kernel of `op` alone, on inputs that are quantized already, over the shapes of real models. Copies of
// the weights take turns, 16 of them or as many as fill 64 MB.
void bench_gemm(Bench& bench, const char* op, size_t group, ferrule_gemm_fn* kernel);

}  // namespace ferrule::bench

#endif
