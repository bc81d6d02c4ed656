#ifndef FERRULE_BUNDLE_H
#define FERRULE_BUNDLE_H

#include "ferrule/program.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A folder that `ferrule build --target native` wrote: a manifest, the program, and inputs with the answers
 * of the model that it was made from (the proof). Not for use by two threads at a time. */
typedef struct ferrule_bundle ferrule_bundle;

/* Reads manifest.json, looks at every file below the folder (those that the manifest names and no other, each
 * regular and with its SHA-256), and opens the program as ferrule_open does. NULL on failure, with `error`
 * filled where it is not NULL: FER-NAT-009 no bundle, FER-NAT-010 one for another target, FER-NAT-011 files
 * that were changed, are missing or do not belong there, FER-NAT-012 a path that leaves the folder, and what
 * ferrule_open refuses. */
ferrule_bundle* ferrule_bundle_open(const char* folder, size_t threads, ferrule_error* error);
void ferrule_bundle_close(ferrule_bundle* bundle); /* and its program; NULL is fine */

ferrule_program* ferrule_bundle_program(ferrule_bundle* bundle); /* ends with the bundle; do not close it */

/* The proof: rows of inputs with their answers, for one entry point. The recipe allows a cosine between the
 * program's outputs and the answers of no less than min_cosine. */
size_t ferrule_bundle_proof_count(const ferrule_bundle* bundle);
size_t ferrule_bundle_proof_entry(const ferrule_bundle* bundle);
double ferrule_bundle_min_cosine(const ferrule_bundle* bundle);

/* Fills `inputs` as ferrule_run takes them and `answers` as it fills outputs; there is room for as many as
 * the entry point has. The arrays hold until the next call, or the bundle's end. Returns 1, or 0 with
 * `error`. */
int ferrule_bundle_proof(ferrule_bundle* bundle, size_t row, ferrule_array* inputs, size_t input_count,
                         ferrule_array* answers, size_t answer_count, ferrule_error* error);

#ifdef __cplusplus
}
#endif

#endif
