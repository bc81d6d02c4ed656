// Our ops as kernels of ExecuTorch's registry, `ferrule::<name>.out`. The library is loaded into a process
// that holds ExecuTorch's runtime, which it registers with by itself.
#include <executorch/runtime/core/evalue.h>
#include <executorch/runtime/core/exec_aten/util/tensor_util.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "vendors/ops.h"

namespace ferrule::vendors {

namespace {

namespace et = executorch::runtime;
using Stack = et::Span<et::EValue*>;

// ExecuTorch gives a kernel nothing to keep: packed layers are found again by the attributes, of which the
// digest of their weights is one, and go with ferrule_executorch_forget.
struct Holders {
  std::mutex mutex;
  std::map<std::array<int64_t, kMaxAttributes>, std::shared_ptr<Holder>> by_attributes;

  std::shared_ptr<Holder> find(const Call& call) {
    std::array<int64_t, kMaxAttributes> key;
    for (size_t i = 0; i < kMaxAttributes; ++i) key[i] = call.attributes[i].integer;
    const std::lock_guard<std::mutex> lock(mutex);
    auto& holder = by_attributes[key];
    if (!holder) holder = std::make_shared<Holder>();
    return holder;
  }
};

Holders& holders() {
  static Holders holders;
  return holders;
}

// What an op of this thread last refused: ExecuTorch itself passes on no more than a number.
std::string& last_refusal() {
  thread_local std::string text;
  return text;
}

executorch::aten::ScalarType dtype_of(Type type) {
  switch (type) {
    case Type::kFloat32:
      return executorch::aten::ScalarType::Float;
    case Type::kInt32:
      return executorch::aten::ScalarType::Int;
    default:
      return executorch::aten::ScalarType::Byte;
  }
}

bool read_tensor(const et::EValue& value, const Port& port, Tensor* tensor) {
  *tensor = {};
  if (value.isNone()) {
    tensor->absent = true;
    return port.optional;
  }
  if (!value.isTensor()) return false;
  const executorch::aten::Tensor& given = value.toTensor();
  if (given.scalar_type() != dtype_of(port.type) || static_cast<size_t>(given.dim()) > kMaxRank ||
      !et::is_contiguous_dim_order(given.dim_order().data(), given.dim_order().size()))
    return false;
  tensor->data = const_cast<void*>(given.const_data_ptr());
  tensor->rank = static_cast<size_t>(given.dim());
  for (size_t i = 0; i < tensor->rank; ++i) tensor->sizes[i] = static_cast<size_t>(given.size(i));
  return true;
}

bool read_value(const et::EValue& value, Value* number) {
  if (value.isInt()) {
    number->integer = value.toInt();
  } else if (value.isBool()) {
    number->integer = value.toBool();
  } else if (value.isDouble()) {
    number->real = value.toDouble();
  } else {
    return false;
  }
  return true;
}

// Gives the output the sizes that the op asks for, within what the program set aside for it.
et::Error resize(et::EValue* value, const Port& port, Tensor* tensor) {
  if (!value->isTensor() || value->toTensor().scalar_type() != dtype_of(port.type))
    return et::Error::InvalidArgument;
  executorch::aten::Tensor& out = value->toTensor();
  executorch::aten::SizesType sizes[kMaxRank];
  for (size_t i = 0; i < tensor->rank; ++i)
    sizes[i] = static_cast<executorch::aten::SizesType>(tensor->sizes[i]);
  const auto error = et::resize_tensor(out, {sizes, tensor->rank});
  tensor->data = out.mutable_data_ptr();
  return error;
}

et::Error call_op(const Op& op, Stack stack) {
  if (stack.size() < op.input_count + op.attribute_count + op.output_count) return et::Error::InvalidArgument;
  et::EValue** next = stack.data();
  Call call = {};
  for (size_t i = 0; i < op.input_count; ++i) {
    if (!read_tensor(**next++, op.inputs[i], &call.inputs[i])) return et::Error::InvalidArgument;
  }
  for (size_t i = 0; i < op.attribute_count; ++i) {
    if (!read_value(**next++, &call.attributes[i])) return et::Error::InvalidArgument;
  }
  ferrule_status status = op.shape(&call);
  if (!status) {
    for (size_t i = 0; i < op.output_count; ++i) {
      if (const auto error = resize(*next++, op.outputs[i], &call.outputs[i]); error != et::Error::Ok)
        return error;
    }
    const auto holder = op.keeps ? holders().find(call) : nullptr;
    status = op.run(call, holder.get());
  }
  if (!status) return et::Error::Ok;
  last_refusal() =
      std::string(ferrule_status_code(status)) + ": ferrule::" + op.name + ": " + ferrule_status_text(status);
  return et::Error::InvalidArgument;
}

template <size_t kIndex>
void kernel(et::KernelRuntimeContext& context, Stack stack) {
  const et::Error error = call_op(kOps[kIndex], stack);
  if (error != et::Error::Ok) context.fail(error);
}

const et::Kernel kKernels[kOpCount] = {
    et::Kernel("ferrule::attention_quantized.out", kernel<0>),
    et::Kernel("ferrule::lookup_linear.out", kernel<1>),
    et::Kernel("ferrule::quantize_kv.out", kernel<2>),
    et::Kernel("ferrule::token_match.out", kernel<3>),
    et::Kernel("ferrule::token_merge.out", kernel<4>),
};

const et::Error kRegistered = et::register_kernels({kKernels, kOpCount});

}  // namespace

}  // namespace ferrule::vendors

#ifdef FERRULE_EXECUTORCH_WHEEL
// The headers' own checks call these three, which the wheel's library keeps to itself.
namespace executorch::runtime {

void runtime_abort() { std::abort(); }

namespace internal {

et_timestamp_t get_log_timestamp() { return 0; }

void vlogf(LogLevel, et_timestamp_t, const char* file, const char*, size_t line, const char* format,
           va_list arguments) {
  std::fprintf(stderr, "%s:%zu: ", file, line);
  std::vfprintf(stderr, format, arguments);
  std::fputc('\n', stderr);
}

}  // namespace internal

}  // namespace executorch::runtime
#endif

#define FERRULE_EXPORT extern "C" __attribute__((visibility("default")))

// 0 where the runtime took the kernels.
FERRULE_EXPORT int ferrule_executorch_status() { return static_cast<int>(ferrule::vendors::kRegistered); }

// What the calling thread's last run was refused for by one of our ops, told once; "" if by none.
FERRULE_EXPORT const char* ferrule_executorch_refusal() {
  thread_local std::string told;
  told.clear();
  told.swap(ferrule::vendors::last_refusal());
  return told.c_str();
}

// Threads of our kernels, for all programs of the process.
FERRULE_EXPORT void ferrule_executorch_threads(size_t threads) { ferrule::vendors::set_threads(threads); }

// Frees the packed layers of all programs; one that goes on running packs its own again.
FERRULE_EXPORT void ferrule_executorch_forget() {
  auto& all = ferrule::vendors::holders();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.by_attributes.clear();
}
