// The part of ONNX Runtime's C interface that onnxruntime.cpp needs.
//
// The Python wheel brings the runtime without its header, and custom ops link to nothing: the runtime hands
// its functions over in a table. The table's order is frozen (a version of the interface only appends to it),
// so a function is its place there. Places are those of version 1, which ends at 101; OrtCustomOp is that of
// version 16, the first whose functions can answer with an error.
#ifndef FERRULE_VENDORS_ONNXRUNTIME_ABI_H
#define FERRULE_VENDORS_ONNXRUNTIME_ABI_H

#include <cstddef>
#include <cstdint>

namespace ferrule::vendors::ort {

constexpr uint32_t kVersion = 16;

// Opaque: only pointers to them pass through our hands.
struct Status;
struct SessionOptions;
struct Domain;
struct KernelInfo;
struct KernelContext;
struct Tensor;
struct ShapeInfo;

struct Api;  // the table of functions

struct ApiBase {
  const Api* (*get_api)(uint32_t version);  // NULL where the runtime is older
  const char* (*get_version)();
};

enum ElementType : int { kUndefined = 0, kFloat32 = 1, kUint8 = 2, kInt32 = 6 };
enum Presence : int { kRequired = 0, kOptional = 1 };
enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };

// What a custom op is to the runtime: functions that it calls with the op itself.
struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char* (*name)(const CustomOp*);
  const char* (*provider)(const CustomOp*);
  ElementType (*input_type)(const CustomOp*, size_t index);
  size_t (*input_count)(const CustomOp*);
  ElementType (*output_type)(const CustomOp*, size_t index);
  size_t (*output_count)(const CustomOp*);
  void (*compute)(void* kernel, KernelContext*);
  void (*destroy)(void* kernel);
  Presence (*input_presence)(const CustomOp*, size_t index);
  Presence (*output_presence)(const CustomOp*, size_t index);
  int (*input_memory)(const CustomOp*, size_t index);
  int (*variadic_input_least)(const CustomOp*);
  int (*variadic_input_alike)(const CustomOp*);
  int (*variadic_output_least)(const CustomOp*);
  int (*variadic_output_alike)(const CustomOp*);
  Status* (*create_kernel_v2)(const CustomOp*, const Api*, const KernelInfo*, void** kernel);
  Status* (*compute_v2)(void* kernel, KernelContext*);
};

// The function at a place of the table.
template <typename Function>
Function* at(const Api* api, size_t place) {
  return reinterpret_cast<Function* const*>(api)[place];
}

// A function of the table under its name: CALL(name, place, result, parameters) makes `name(api, ...)`.
#define FERRULE_ORT_FUNCTION(name, place, result, ...)        \
  template <typename... Arguments>                            \
  result name(const Api* api, Arguments... arguments) {       \
    return at<result(__VA_ARGS__)>(api, place)(arguments...); \
  }

FERRULE_ORT_FUNCTION(create_status, 0, Status*, ErrorCode, const char*)
FERRULE_ORT_FUNCTION(create_domain, 26, Status*, const char*, Domain**)
FERRULE_ORT_FUNCTION(add_to_domain, 27, Status*, Domain*, const CustomOp*)
FERRULE_ORT_FUNCTION(add_domain, 28, Status*, SessionOptions*, Domain*)
FERRULE_ORT_FUNCTION(tensor_data, 51, Status*, Tensor*, void**)
FERRULE_ORT_FUNCTION(dimension_count, 61, Status*, const ShapeInfo*, size_t*)
FERRULE_ORT_FUNCTION(dimensions, 62, Status*, const ShapeInfo*, int64_t*, size_t)
FERRULE_ORT_FUNCTION(shape_info, 65, Status*, const Tensor*, ShapeInfo**)
FERRULE_ORT_FUNCTION(attribute_float, 85, Status*, const KernelInfo*, const char*, float*)
FERRULE_ORT_FUNCTION(attribute_int64, 86, Status*, const KernelInfo*, const char*, int64_t*)
FERRULE_ORT_FUNCTION(input_count, 88, Status*, const KernelContext*, size_t*)
FERRULE_ORT_FUNCTION(input, 90, Status*, const KernelContext*, size_t, const Tensor**)
FERRULE_ORT_FUNCTION(output, 91, Status*, KernelContext*, size_t, const int64_t*, size_t, Tensor**)
FERRULE_ORT_FUNCTION(release_shape_info, 99, void, ShapeInfo*)

#undef FERRULE_ORT_FUNCTION

}  // namespace ferrule::vendors::ort

#endif
