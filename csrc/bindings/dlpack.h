// The memory layout of DLPack's structures (dmlc.github.io/dlpack), as far as tensors in main memory need it.
#ifndef FERRULE_BINDINGS_DLPACK_H
#define FERRULE_BINDINGS_DLPACK_H

#include <cstdint>

namespace ferrule::bindings::dlpack {

constexpr int32_t kCpu = 1;            // device_type of main memory
constexpr uint64_t kReadOnly = 1;      // a flag of ManagedVersioned
constexpr uint32_t kMajorVersion = 1;  // another major version may lay out what follows otherwise
enum TypeCode : uint8_t { kInt = 0, kUint = 1, kFloat = 2, kBfloat = 4, kBool = 6 };

struct Tensor {
  void* data;
  int32_t device_type;
  int32_t device_id;
  int32_t rank;
  uint8_t type_code;
  uint8_t bits;
  uint16_t lanes;
  int64_t* shape;
  int64_t* strides;      // in elements; NULL: C-contiguous
  uint64_t byte_offset;  // from data to the first element
};

struct Managed {  // of a capsule named "dltensor"
  Tensor tensor;
  void* context;
  void (*release)(Managed*);
};

struct ManagedVersioned {  // of a capsule named "dltensor_versioned"
  uint32_t major;
  uint32_t minor;
  void* context;
  void (*release)(ManagedVersioned*);
  uint64_t flags;
  Tensor tensor;
};

}  // namespace ferrule::bindings::dlpack

#endif
