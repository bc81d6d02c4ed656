#include "ferrule/status.h"

const char* ferrule_status_code(ferrule_status status) {
  switch (status) {
    case FERRULE_OK:
      return "";
    case FERRULE_BAD_TYPE:
      return "FER-KER-001";
    case FERRULE_BAD_SHAPE:
      return "FER-KER-002";
    case FERRULE_BAD_LAYOUT:
      return "FER-KER-003";
    case FERRULE_BAD_VALUE:
      return "FER-KER-004";
    case FERRULE_BAD_ISA:
      return "FER-KER-005";
    case FERRULE_TOO_LARGE:
      return "FER-KER-007";
    case FERRULE_BAD_PACKED:
      return "FER-KER-008";
  }
  return "FER-KER-000";
}

const char* ferrule_status_text(ferrule_status status) {
  switch (status) {
    case FERRULE_OK:
      return "done";
    case FERRULE_BAD_TYPE:
      return "a kind, dtype or mode that this op does not take";
    case FERRULE_BAD_SHAPE:
      return "sizes that do not fit each other, or a pointer that is missing";
    case FERRULE_BAD_LAYOUT:
      return "strides or alignment that this op does not take";
    case FERRULE_BAD_VALUE:
      return "a value out of range";
    case FERRULE_BAD_ISA:
      return "an instruction set that is unknown or cannot be used here";
    case FERRULE_TOO_LARGE:
      return "sizes beyond what memory or int32 sums can hold";
    case FERRULE_BAD_PACKED:
      return "packed weights of another version or instruction set, or damaged ones";
  }
  return "a status that is not known";
}
