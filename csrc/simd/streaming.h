// Entering SME's streaming mode. Clang's attributes that do it (__arm_locally_streaming, __arm_new) call
// routines of compiler-rt that libgcc 12 lacks, or read the length of SVE vectors, which Apple's M4 has in
// streaming mode only; so the few instructions are here.
#ifndef FERRULE_SIMD_STREAMING_H
#define FERRULE_SIMD_STREAMING_H

namespace {

using StreamingBody = void(const void* args) __arm_streaming __arm_inout("za");

// Calls body(args) in streaming mode with ZA on, and turns both off. A caller further up that has left its ZA
// to be saved when needed (a TPIDR2 block: its buffer, and how many vectors of ZA go there) gets it saved
// first, as the procedure call standard asks of whoever uses ZA.
__attribute__((naked)) void run_streaming([[maybe_unused]] StreamingBody* body,
                                          [[maybe_unused]] const void* args) {
  __asm__(
      ".arch_extension sme\n"
      "stp x29, x30, [sp, #-80]!\n"
      "mov x29, sp\n"
      "stp d8, d9, [sp, #16]\n"
      "stp d10, d11, [sp, #32]\n"
      "stp d12, d13, [sp, #48]\n"
      "stp d14, d15, [sp, #64]\n"
      "mrs x9, tpidr2_el0\n"
      "cbz x9, 3f\n"
      "ldr x10, [x9]\n"
      "ldrh w11, [x9, #8]\n"
      "mov w12, wzr\n"
      "cbz x10, 2f\n"
      "cbz w11, 2f\n"
      "1: str za[w12, 0], [x10]\n"
      "addsvl x10, x10, #1\n"
      "add w12, w12, #1\n"
      "cmp w12, w11\n"
      "b.lo 1b\n"
      "2: msr tpidr2_el0, xzr\n"
      "3: smstart\n"
      "mov x9, x0\n"
      "mov x0, x1\n"
      "blr x9\n"
      "smstop\n"
      "ldp d8, d9, [sp, #16]\n"
      "ldp d10, d11, [sp, #32]\n"
      "ldp d12, d13, [sp, #48]\n"
      "ldp d14, d15, [sp, #64]\n"
      "ldp x29, x30, [sp], #80\n"
      "ret\n");
}

}  // namespace

#endif
