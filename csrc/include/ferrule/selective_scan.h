#ifndef FERRULE_SELECTIVE_SCAN_H
#define FERRULE_SELECTIVE_SCAN_H

#include <stddef.h>

#include "ferrule/status.h"
#include "ferrule/threads.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Channels of a unit of work, and steps that a kernel takes at a time. */
#define FERRULE_SCAN_CHANNELS 16
#define FERRULE_SCAN_STEPS 64

/* Elements from one batch entry, step and channel to the next: {length * channels, channels, 1} for
 * [batch][length][channels], {channels * length, 1, length} for [batch][channels][length]. */
typedef struct ferrule_scan_strides {
  size_t batch, step, channel;
} ferrule_scan_strides;

/* The same for what all channels of a group share. */
typedef struct ferrule_scan_group_strides {
  size_t batch, group, step, state;
} ferrule_scan_group_strides;

/* The selective scan of Mamba (Gu and Dao, section 3.2). For every batch entry and channel, over the steps t:
 *
 *   d = delta_t + delta_bias, then softplus(d) where `softplus` is not 0
 *   h[n] = exp(d * a[n]) * h[n] + d * b_t[n] * input_t     for each of the `states` n
 *   y = sum over n of c_t[n] * h[n]  +  skip * input_t
 *   output_t = y * silu(gate_t)
 *
 * Float32. delta is taken to be below 1e10 and `a` to lie within 1e10 of zero. One step of decoding is length
 * 1 with the state given and taken.
 *
 * Unit of work: the channels [i * FERRULE_SCAN_CHANNELS, ...) of a group of a batch entry; there are
 * ferrule_selective_scan_units. Any alignment. `output` may be `input`, `delta` or `gate` where the strides
 * are the same; `final_state` may be `initial_state`. */
typedef struct ferrule_selective_scan_args {
  const float* input; /* u */
  const float* delta;
  const float* delta_bias;    /* [channels], or NULL for zeros */
  const float* a;             /* [channels][states], below zero in a trained model */
  const float* b;             /* shared by the channels / groups channels of a group */
  const float* c;             /* likewise */
  const float* skip;          /* D, [channels], or NULL for zeros */
  const float* gate;          /* z, or NULL for none */
  const float* initial_state; /* [batch][channels][states], or NULL for zeros */
  float* final_state;         /* [batch][channels][states], or NULL */
  float* output;
  ferrule_scan_strides input_strides, delta_strides, gate_strides, output_strides;
  ferrule_scan_group_strides b_strides, c_strides;
  size_t batch, length, channels, states;
  size_t groups; /* divides channels */
  int softplus;
} ferrule_selective_scan_args;

/* `scratch` of a kernel: ferrule_selective_scan_scratch(args, 1) bytes, FERRULE_ALIGNMENT-aligned. */
typedef void ferrule_selective_scan_fn(const ferrule_selective_scan_args* args, size_t begin, size_t end,
                                       void* scratch);

size_t ferrule_selective_scan_units(const ferrule_selective_scan_args* args);

/* Bytes of scratch for `threads` threads; 0 where the sizes overflow. */
size_t ferrule_selective_scan_scratch(const ferrule_selective_scan_args* args, size_t threads);

/* `scratch`: as many bytes as ferrule_selective_scan_scratch says for the threads of the pool,
 * FERRULE_ALIGNMENT- aligned. */
ferrule_status ferrule_selective_scan(const ferrule_selective_scan_args* args, const char* isa,
                                      ferrule_pool* pool, void* scratch);

#ifdef __cplusplus
}
#endif

#endif
