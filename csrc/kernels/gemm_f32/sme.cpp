#include "kernels/gemm/sme.h"

#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/gemm_f32/finish.h"

namespace {

struct Floats {
  using Value = float;
  using Sum = float;
  static constexpr size_t kStep = 1;
  __attribute__((always_inline)) static svfloat32_t load(
      svbool_t words, const void* memory, int64_t vector) __arm_streaming __arm_preserves("za") {
    return svld1_vnum_f32(words, static_cast<const float*>(memory), vector);
  }
  template <uint64_t kTile>
  __attribute__((always_inline)) static void add(svbool_t rows, svbool_t columns, svfloat32_t a,
                                                 svfloat32_t b) __arm_streaming __arm_inout("za") {
    svmopa_za32_f32_m(kTile, rows, columns, a, b);
  }
};

}  // namespace

void ferrule_gemm_f32_sme(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch) {
  multiply_panels<Floats>(*args, begin, end, scratch,
                          [args](const Panel& panel, const float* sums, size_t row, size_t rows) {
                            finish_rows<kColumns>(*args, panel, sums, row, rows);
                          });
}
