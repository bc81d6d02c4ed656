#include "ferrule/dispatch.h"
#include "kernels/declarations.h"

#include "kernels/peak/streaming.h"

namespace {

inline void add_products() __arm_streaming __arm_inout("za") {
  const svbool_t all = svptrue_b32();
  const svfloat32_t a = svdup_f32(0.999f), b = svdup_f32(0.5f);
  svmopa_za32_f32_m(0, all, all, a, b);
  svmopa_za32_f32_m(1, all, all, a, b);
  svmopa_za32_f32_m(2, all, all, a, b);
  svmopa_za32_f32_m(3, all, all, a, b);
}

}  // namespace

void ferrule_peak_sme(const ferrule_peak_args* args, size_t begin, size_t end, void* scratch) {
  if (args->kind != FERRULE_PEAK_FMA) {
    const ferrule_kernel* weaker = ferrule_find_kernel("peak", "i8mm");
    return reinterpret_cast<ferrule_peak_fn*>(weaker->function)(args, begin, end, scratch);
  }
  run_peak(*args, end - begin, 1);
}
