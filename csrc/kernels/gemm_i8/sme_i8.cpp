#include "kernels/gemm/sme.h"

#include "kernels/declarations.h"
#include "simd/neon.h"

#include "kernels/gemm/epilogue.h"

namespace {

struct Codes {
  using Value = int8_t;
  using Sum = int32_t;
  static constexpr size_t kStep = 4;
  __attribute__((always_inline)) static svint8_t load(svbool_t words, const void* memory,
                                                      int64_t vector) __arm_streaming __arm_preserves("za") {
    return svld1_vnum_s8(words, static_cast<const int8_t*>(memory), vector);
  }
  template <uint64_t kTile>
  __attribute__((always_inline)) static void add(svbool_t rows, svbool_t columns, svint8_t a,
                                                 svint8_t b) __arm_streaming __arm_inout("za") {
    svmopa_za32_s8_m(kTile, rows, columns, a, b);
  }
};

// Writes output[row] for the columns of a panel from the sums of its codes.
void finish_codes(const ferrule_gemm_args& args, const Epilogue& epilogue, const Panel& panel,
                  const int32_t* sums, size_t row) {
  const auto* columns = static_cast<const int32_t*>(panel.sums);
  const int32x4_t zero = vdupq_n_s32(args.input_zeros[row]);
  const F32 scale = splat(args.input_scales[row]);
  for_vectors(panel.count, [&](size_t i, size_t count) {
    const F32 sum = vcvtq_f32_s32(vmlsq_s32(vld1q_s32(sums + i), vld1q_s32(columns + i), zero));
    finish(args, epilogue, row, panel.first + i, count,
           add(mul(sum, mul(scale, load(panel.scales + i))), load(panel.bias + i)));
  });
}

}  // namespace

void ferrule_gemm_i8_sme_i8(const ferrule_gemm_args* args, size_t begin, size_t end, void* scratch) {
  multiply_panels<Codes>(*args, begin, end, scratch,
                         [args](const Panel& panel, const int32_t* sums, size_t row, size_t rows) {
                           const Epilogue epilogue(args->epilogue);
                           for (size_t r = 0; r < rows; ++r)
                             finish_codes(*args, epilogue, panel, sums + r * kColumns, row + r);
                         });
}
