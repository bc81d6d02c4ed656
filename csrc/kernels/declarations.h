#ifndef FERRULE_KERNELS_DECLARATIONS_H
#define FERRULE_KERNELS_DECLARATIONS_H

#include "ferrule/kernels.h"

// Declares every kernel in the table with the signature of its op, so that a definition which
// differs does not compile.
extern "C" {
#define FERRULE_KERNEL(op, isa, function) ferrule_##op##_fn function;
#include "kernels/table.inc"
#undef FERRULE_KERNEL
}

#endif
