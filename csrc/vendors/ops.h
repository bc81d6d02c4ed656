// The ops that Ferrule adds to the vendors' runtimes, told once. A runtime's file (executorch.cpp,
// onnxruntime.cpp, litert.cpp) turns its tensors and attributes into a Call and needs to know no op by name.
//
// The torch ops of the same names (runtime/torch_ops.py) have these inputs and attributes in this order, and
// say what they mean. All tensors are contiguous.
#ifndef FERRULE_VENDORS_OPS_H
#define FERRULE_VENDORS_OPS_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "ferrule/status.h"

namespace ferrule::vendors {

constexpr size_t kMaxRank = 8, kMaxInputs = 8, kMaxOutputs = 3, kMaxAttributes = 4;

enum class Type : uint8_t { kFloat32, kInt32, kUint8 };

struct Port {
  const char* name;
  Type type;
  bool optional;
};

struct Attribute {
  const char* name;
  bool real;  // a float; else an integer, or 0 and 1 for a truth value
};

struct Tensor {
  void* data;
  size_t rank;
  size_t sizes[kMaxRank];
  bool absent;  // an optional input that was not given
};

struct Value {
  int64_t integer;
  double real;
};

struct Call {
  Tensor inputs[kMaxInputs];
  Value attributes[kMaxAttributes];
  Tensor outputs[kMaxOutputs];
};

// A linear layer packed for this processor.
struct Layer;

// What a place in a program keeps from run to run: its packed layer, if it has one. For any number of
// threads.
struct Holder {
  std::mutex mutex;
  std::shared_ptr<const Layer> layer;
};

struct Op {
  const char* name;
  size_t input_count, attribute_count, output_count;
  Port inputs[kMaxInputs];
  Attribute attributes[kMaxAttributes];
  Port outputs[kMaxOutputs];
  bool keeps;  // whether it needs a holder; its attributes then tell one holder from another
  // Checks the sizes of the inputs and the attributes, and fills in the sizes of the outputs.
  ferrule_status (*shape)(Call* call);
  // Computes the outputs of a call that `shape` took.
  ferrule_status (*run)(const Call& call, Holder* holder);
};

constexpr size_t kOpCount = 5;
extern const Op kOps[kOpCount];

// Threads that ops run on: one pool for the process, as ExecuTorch has it. Until then an op runs on the
// thread that calls it. Ops that are running end on the pool that they began on.
void set_threads(size_t threads);

}  // namespace ferrule::vendors

#endif
