#ifndef FERRULE_DISPATCH_H
#define FERRULE_DISPATCH_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Name of the environment variable that names the highest instruction set to use. It is read once. */
#define FERRULE_ISA_VARIABLE "FERRULE_ISA"

/* A kernel without its signature; cast it to the `ferrule_<op>_fn` of its op. */
typedef void (*ferrule_function)(void);

/* One row of kernels/table.inc. */
typedef struct ferrule_kernel {
  const char* op;
  const char* isa;
  ferrule_function function;
} ferrule_kernel;

typedef enum ferrule_isa_status {
  FERRULE_ISA_USABLE,
  FERRULE_ISA_UNKNOWN,      /* no instruction set of this name */
  FERRULE_ISA_NOT_COMPILED, /* known, but this build holds no kernel for it */
  FERRULE_ISA_NOT_ON_CPU    /* compiled, but this CPU or operating system lacks it */
} ferrule_isa_status;

/* All rows compiled into this build, whether or not the CPU can run them. */
size_t ferrule_kernel_count(void);
const ferrule_kernel* ferrule_kernel_at(size_t index);

/* Every known instruction set, weakest first. */
size_t ferrule_isa_count(void);
const char* ferrule_isa_at(size_t index);
ferrule_isa_status ferrule_check_isa(const char* isa);

/* 0 where it is used only if FERRULE_ISA or an argument names it, however strong: sme_i8, whose kernels have
 * not been run over all inputs, and avx512_bf16, which has nothing but a peak. */
int ferrule_isa_by_default(const char* isa);

/* The instruction set in use: the one that FERRULE_ISA names, else the strongest usable one that needs not be
 * named. `*isa` is set in either case; where the status is not FERRULE_ISA_USABLE it is the refused value. */
ferrule_isa_status ferrule_active_isa(const char** isa);

/* The strongest kernel of `op` that needs no more than `isa` (a usable name); NULL for an unknown op. */
const ferrule_kernel* ferrule_find_kernel(const char* op, const char* isa);

#ifdef __cplusplus
}
#endif

#endif
