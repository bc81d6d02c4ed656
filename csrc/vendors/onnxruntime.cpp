// Our ops as custom ops of ONNX Runtime, in the domain `ferrule`: a session takes them from this library by
// SessionOptions.register_custom_ops_library, which calls RegisterCustomOps.
#include <array>
#include <memory>
#include <new>
#include <string>

#include "vendors/onnxruntime_abi.h"
#include "vendors/ops.h"

namespace ferrule::vendors {

namespace {

struct CustomOp : ort::CustomOp {
  const Op* op;
};

const Op& op_of(const ort::CustomOp* custom) { return *static_cast<const CustomOp*>(custom)->op; }

// One node of a session.
struct Kernel {
  const ort::Api* api;
  const Op* op;
  std::array<Value, kMaxAttributes> attributes;
  Holder holder;
};

ort::ElementType type_of(Type type) {
  switch (type) {
    case Type::kFloat32:
      return ort::kFloat32;
    case Type::kInt32:
      return ort::kInt32;
    default:
      return ort::kUint8;
  }
}

ort::Status* read_attributes(const ort::KernelInfo* info, Kernel* kernel) {
  for (size_t i = 0; i < kernel->op->attribute_count; ++i) {
    const Attribute& wanted = kernel->op->attributes[i];
    Value& value = kernel->attributes[i];
    if (wanted.real) {
      float found = 0;
      if (auto* status = ort::attribute_float(kernel->api, info, wanted.name, &found)) return status;
      value.real = static_cast<double>(found);
    } else if (auto* status = ort::attribute_int64(kernel->api, info, wanted.name, &value.integer)) {
      return status;
    }
  }
  return nullptr;
}

ort::Status* create_kernel(const ort::CustomOp* custom, const ort::Api* api, const ort::KernelInfo* info,
                           void** made) {
  std::unique_ptr<Kernel> kernel(new (std::nothrow) Kernel{api, &op_of(custom), {}, {}});
  if (!kernel) return ort::create_status(api, ort::kFail, "ferrule: there is no memory for a node");
  if (auto* status = read_attributes(info, kernel.get())) return status;
  *made = kernel.release();
  return nullptr;
}

ort::Status* refuse(const Kernel& kernel, ferrule_status status) {
  const std::string text = std::string(ferrule_status_code(status)) + ": ferrule::" + kernel.op->name + ": " +
                           ferrule_status_text(status);
  return ort::create_status(kernel.api, ort::kInvalidArgument, text.c_str());
}

ort::Status* read_tensor(const Kernel& kernel, const ort::KernelContext* context, size_t index,
                         Tensor* tensor) {
  const ort::Api* const api = kernel.api;
  const ort::Tensor* given = nullptr;
  size_t count = 0;
  if (auto* status = ort::input_count(api, context, &count)) return status;
  if (index < count) {
    if (auto* status = ort::input(api, context, index, &given)) return status;
  }
  *tensor = {};
  tensor->absent = !given;
  if (!given) return kernel.op->inputs[index].optional ? nullptr : refuse(kernel, FERRULE_BAD_SHAPE);
  ort::ShapeInfo* info = nullptr;
  if (auto* status = ort::shape_info(api, given, &info)) return status;
  const struct Release {
    const ort::Api* api;
    ort::ShapeInfo* info;
    ~Release() { ort::release_shape_info(api, info); }
  } release{api, info};
  int64_t sizes[kMaxRank];
  if (auto* status = ort::dimension_count(api, info, &tensor->rank)) return status;
  if (tensor->rank > kMaxRank) return refuse(kernel, FERRULE_BAD_SHAPE);
  if (auto* status = ort::dimensions(api, info, sizes, tensor->rank)) return status;
  for (size_t i = 0; i < tensor->rank; ++i) tensor->sizes[i] = static_cast<size_t>(sizes[i]);
  // The interface has no constant form; inputs are only read.
  return ort::tensor_data(api, const_cast<ort::Tensor*>(given), &tensor->data);
}

ort::Status* make_output(const Kernel& kernel, ort::KernelContext* context, size_t index, Tensor* tensor) {
  int64_t sizes[kMaxRank];
  for (size_t i = 0; i < tensor->rank; ++i) sizes[i] = static_cast<int64_t>(tensor->sizes[i]);
  ort::Tensor* made = nullptr;
  if (auto* status = ort::output(kernel.api, context, index, sizes, tensor->rank, &made)) return status;
  return ort::tensor_data(kernel.api, made, &tensor->data);
}

ort::Status* compute(void* state, ort::KernelContext* context) {
  Kernel& kernel = *static_cast<Kernel*>(state);
  const Op& op = *kernel.op;
  Call call = {};
  for (size_t i = 0; i < op.input_count; ++i) {
    if (auto* status = read_tensor(kernel, context, i, &call.inputs[i])) return status;
  }
  for (size_t i = 0; i < op.attribute_count; ++i) call.attributes[i] = kernel.attributes[i];
  if (const auto status = op.shape(&call)) return refuse(kernel, status);
  for (size_t i = 0; i < op.output_count; ++i) {
    if (auto* status = make_output(kernel, context, i, &call.outputs[i])) return status;
  }
  const auto status = op.run(call, &kernel.holder);
  return status ? refuse(kernel, status) : nullptr;
}

CustomOp describe(const Op& op) {
  CustomOp custom = {};
  custom.op = &op;
  custom.version = ort::kVersion;
  custom.name = [](const ort::CustomOp* self) { return op_of(self).name; };
  custom.provider = [](const ort::CustomOp*) -> const char* { return nullptr; };  // the CPU's
  custom.input_type = [](const ort::CustomOp* self, size_t i) { return type_of(op_of(self).inputs[i].type); };
  custom.input_count = [](const ort::CustomOp* self) { return op_of(self).input_count; };
  custom.output_type = [](const ort::CustomOp* self, size_t i) {
    return type_of(op_of(self).outputs[i].type);
  };
  custom.output_count = [](const ort::CustomOp* self) { return op_of(self).output_count; };
  custom.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  custom.input_presence = [](const ort::CustomOp* self, size_t i) {
    return op_of(self).inputs[i].optional ? ort::kOptional : ort::kRequired;
  };
  custom.output_presence = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
  custom.input_memory = [](const ort::CustomOp*, size_t) { return 0; };
  custom.create_kernel_v2 = create_kernel;
  custom.compute_v2 = compute;
  return custom;
}

}  // namespace

}  // namespace ferrule::vendors

#define FERRULE_EXPORT extern "C" __attribute__((visibility("default")))

// Adds our ops to the options of a session. The ops and their domain live as long as the process.
FERRULE_EXPORT ferrule::vendors::ort::Status* RegisterCustomOps(
    ferrule::vendors::ort::SessionOptions* options, const ferrule::vendors::ort::ApiBase* base) {
  namespace v = ferrule::vendors;
  const v::ort::Api* const api = base->get_api(v::ort::kVersion);
  if (!api) return v::ort::create_status(base->get_api(1), v::ort::kFail, "ferrule: needs ONNX Runtime 1.16");
  static v::CustomOp ops[v::kOpCount];
  static v::ort::Domain* domain = nullptr;
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (!domain) {
    v::ort::Domain* made = nullptr;
    if (auto* status = v::ort::create_domain(api, "ferrule", &made)) return status;
    for (size_t i = 0; i < v::kOpCount; ++i) {
      ops[i] = v::describe(v::kOps[i]);
      if (auto* status = v::ort::add_to_domain(api, made, &ops[i])) return status;
    }
    domain = made;
  }
  return v::ort::add_domain(api, options, domain);
}

// Threads of our kernels, for all sessions of the process.
FERRULE_EXPORT void ferrule_onnxruntime_threads(size_t threads) { ferrule::vendors::set_threads(threads); }
