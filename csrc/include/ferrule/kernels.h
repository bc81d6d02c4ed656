#ifndef FERRULE_KERNELS_H
#define FERRULE_KERNELS_H

/* All ops. Each header declares the arguments of its op; ferrule_<op>(), which checks them, divides the work
 * over a pool and calls the strongest kernel; and ferrule_<op>_fn, the signature of those kernels:
 *
 *   void kernel(const ferrule_<op>_args* args, size_t begin, size_t end, void* scratch);
 *
 * A kernel does the units [begin, end) of the work (the header says what a unit is), checks nothing,
 * allocates nothing, keeps no state and starts no thread. */
#include "ferrule/activate.h"
#include "ferrule/attention.h"
#include "ferrule/attention_i8.h"
#include "ferrule/conv.h"
#include "ferrule/conv_depthwise.h"
#include "ferrule/conv_depthwise_i8.h"
#include "ferrule/embedding.h"
#include "ferrule/gemm.h"
#include "ferrule/hadamard.h"
#include "ferrule/layer_norm.h"
#include "ferrule/linear.h"
#include "ferrule/mean_tokens.h"
#include "ferrule/peak.h"
#include "ferrule/pooling.h"
#include "ferrule/pooling_i8.h"
#include "ferrule/quantize_kv.h"
#include "ferrule/quantize_rows.h"
#include "ferrule/rational.h"
#include "ferrule/rms_norm.h"
#include "ferrule/rope.h"
#include "ferrule/rope_tables.h"
#include "ferrule/selective_scan.h"
#include "ferrule/softmax.h"
#include "ferrule/tokens.h"

#endif
