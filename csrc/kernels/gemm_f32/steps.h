// Loops whose index is a constant, as intrinsics want it.
#ifndef FERRULE_KERNELS_GEMM_F32_STEPS_H
#define FERRULE_KERNELS_GEMM_F32_STEPS_H

namespace {

template <size_t kStep>
struct Step {
  static constexpr size_t value = kStep;
};

// Calls body(Step) for each of kSteps.
template <size_t kSteps, size_t kStep = 0, typename Body>
__attribute__((always_inline)) inline void for_steps(Body body) {
  body(Step<kStep>());
  if constexpr (kStep + 1 < kSteps) for_steps<kSteps, kStep + 1>(body);
}

}  // namespace

#endif
