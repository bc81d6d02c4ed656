#ifndef FERRULE_STATUS_H
#define FERRULE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* What came of a call. Python raises an exception with the code that ferrule_status_code gives. */
typedef enum ferrule_status {
  FERRULE_OK = 0,
  FERRULE_BAD_TYPE,   /* FER-KER-001: a kind, dtype or mode that the op does not take */
  FERRULE_BAD_SHAPE,  /* FER-KER-002: sizes that do not fit each other, or a required pointer that is NULL */
  FERRULE_BAD_LAYOUT, /* FER-KER-003: strides or alignment that the op does not take */
  FERRULE_BAD_VALUE,  /* FER-KER-004: a value out of range: NaN, infinity, an index beyond its table */
  FERRULE_BAD_ISA,    /* FER-KER-005: an instruction set that is unknown or cannot be used here */
  FERRULE_TOO_LARGE,  /* FER-KER-007: sizes whose product overflows, or a depth whose int32 sums would */
  FERRULE_BAD_PACKED  /* FER-KER-008: packed weights of another version, instruction set or content */
} ferrule_status;

/* "FER-KER-002" and the like; "" for FERRULE_OK. */
const char* ferrule_status_code(ferrule_status status);

/* One English clause: what such a status means. */
const char* ferrule_status_text(ferrule_status status);

#ifdef __cplusplus
}
#endif

#endif
