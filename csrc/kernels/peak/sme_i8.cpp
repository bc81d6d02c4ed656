#include "ferrule/dispatch.h"
#include "kernels/declarations.h"

#include "kernels/peak/streaming.h"

namespace {

inline void add_products() __arm_streaming __arm_inout("za") {
  const svbool_t all = svptrue_b8();
  const svint8_t a = svdup_s8(3), b = svdup_s8(-2);
  svmopa_za32_s8_m(0, all, all, a, b);
  svmopa_za32_s8_m(1, all, all, a, b);
  svmopa_za32_s8_m(2, all, all, a, b);
  svmopa_za32_s8_m(3, all, all, a, b);
}

}  // namespace

void ferrule_peak_sme_i8(const ferrule_peak_args* args, size_t begin, size_t end, void* scratch) {
  if (args->kind != FERRULE_PEAK_DOT_I8) {
    const ferrule_kernel* weaker = ferrule_find_kernel("peak", "sme");
    return reinterpret_cast<ferrule_peak_fn*>(weaker->function)(args, begin, end, scratch);
  }
  run_peak(*args, end - begin, 4);
}
