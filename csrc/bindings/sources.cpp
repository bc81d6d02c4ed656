// Where tensors come from: Python's buffer protocol and DLPack.
#include <cstring>

#include "dlpack.h"
#include "errors.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

std::optional<Dtype> signed_of(size_t size) {
  switch (size) {
    case 1:
      return Dtype::kInt8;
    case 2:
      return Dtype::kInt16;
    case 4:
      return Dtype::kInt32;
    case 8:
      return Dtype::kInt64;
    default:
      return std::nullopt;
  }
}

// The dtype of a buffer whose format is one of struct's, in the machine's byte order.
std::optional<Dtype> read_format(const char* format, py::ssize_t size) {
  if (!format) return Dtype::kUint8;
  const bool swapped = *format == '>' || *format == '!';
  if (*format && std::strchr("@=<>!", *format)) ++format;
  if (std::strlen(format) != 1 || (swapped && size > 1)) return std::nullopt;
  if (*format == 'f' && size == 4) return Dtype::kFloat32;
  if (*format == 'd' && size == 8) return Dtype::kFloat64;
  if (*format == 'B') return Dtype::kUint8;
  if (*format == '?') return Dtype::kBool;
  return std::strchr("bhilqn", *format) ? signed_of(static_cast<size_t>(size)) : std::nullopt;
}

std::optional<Dtype> read_type(const dlpack::Tensor& tensor) {
  if (tensor.lanes != 1 || tensor.bits % 8 != 0) return std::nullopt;
  if (tensor.type_code == dlpack::kInt) return signed_of(tensor.bits / 8);
  if (tensor.type_code == dlpack::kFloat && tensor.bits == 32) return Dtype::kFloat32;
  if (tensor.type_code == dlpack::kFloat && tensor.bits == 64) return Dtype::kFloat64;
  if (tensor.type_code == dlpack::kUint && tensor.bits == 8) return Dtype::kUint8;
  if (tensor.type_code == dlpack::kBool && tensor.bits == 8) return Dtype::kBool;
  return std::nullopt;
}

struct Buffer {
  Py_buffer view;
  ~Buffer() { PyBuffer_Release(&view); }
};

std::unique_ptr<Buffer> open_buffer(const py::object& value, int flags) {
  auto buffer = std::make_unique<Buffer>();
  if (PyObject_GetBuffer(value.ptr(), &buffer->view, flags) == 0) return buffer;
  PyErr_Clear();
  buffer->view.obj = nullptr;  // what was not filled is released as nothing
  return nullptr;
}

// What a capsule of DLPack held, now owned by the shared pointer.
struct Imported {
  dlpack::Tensor tensor;
  bool read_only;
  std::shared_ptr<void> memory;
};

template <typename Managed>
Managed* consume(const py::object& capsule, const char* name, const char* used_name) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (!managed || PyCapsule_SetName(capsule.ptr(), used_name) != 0) throw py::error_already_set();
  return managed;
}

template <typename Managed>
std::shared_ptr<void> own(Managed* managed) {
  return std::shared_ptr<void>(managed, [](void* pointer) {
    auto* managed = static_cast<Managed*>(pointer);
    if (managed->release) managed->release(managed);
  });
}

std::optional<Imported> import_capsule(const py::object& capsule) {
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto* managed =
        consume<dlpack::ManagedVersioned>(capsule, "dltensor_versioned", "used_dltensor_versioned");
    const auto memory = own(managed);
    if (managed->major != dlpack::kMajorVersion) return std::nullopt;
    return Imported{managed->tensor, (managed->flags & dlpack::kReadOnly) != 0, memory};
  }
  if (!PyCapsule_IsValid(capsule.ptr(), "dltensor")) return std::nullopt;
  auto* managed = consume<dlpack::Managed>(capsule, "dltensor", "used_dltensor");
  return Imported{managed->tensor, false, own(managed)};
}

// Exporters of before version 1 do not know `max_version`.
py::object export_capsule(const py::object& value) {
  const py::object method = value.attr("__dlpack__");
  try {
    return method(py::arg("max_version") = py::make_tuple(dlpack::kMajorVersion, 0));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return method();
}

}  // namespace

bool Tensor::take_buffer(bool writes, Dtypes dtypes) {
  if (!PyObject_CheckBuffer(object_.ptr())) return false;
  constexpr int kFlags = PyBUF_STRIDES | PyBUF_FORMAT;
  std::shared_ptr<Buffer> buffer = open_buffer(object_, writes ? kFlags | PyBUF_WRITABLE : kFlags);
  if (!buffer) {
    if (writes && open_buffer(object_, kFlags)) {
      refuse_layout(name_, "memory that is read-only", "memory that can be written to");
    }
    return false;
  }
  const Py_buffer& view = buffer->view;
  require_dtype(read_format(view.format, view.itemsize), dtypes);
  data_ = view.buf;
  shape_.assign(view.shape, view.shape + view.ndim);
  require_layout({view.strides, view.strides + view.ndim}, writes);
  memory_ = buffer;
  return true;
}

bool Tensor::take_dlpack(bool writes, Dtypes dtypes) {
  if (!py::hasattr(object_, "__dlpack__") || !py::hasattr(object_, "__dlpack_device__")) return false;
  std::optional<Imported> imported;
  try {
    const auto device = py::tuple(object_.attr("__dlpack_device__")())[0].cast<int32_t>();
    if (device != dlpack::kCpu) {
      refuse_layout(name_, "memory of a device (type " + std::to_string(device) + " of DLPack)",
                    "main memory; copy it there, torch by tensor.cpu()");
    }
    imported = import_capsule(export_capsule(object_));
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;  // Ctrl-C is no answer of the exporter's
    refuse_type(
        name_,
        describe(object_) + " that DLPack does not give (" + py::str(error.value()).cast<std::string>() + ")",
        "a dense tensor in main memory without gradient; torch: tensor.detach()");
  } catch (const py::cast_error&) {
    return false;
  }
  if (!imported) return false;
  const dlpack::Tensor& tensor = imported->tensor;
  require_dtype(read_type(tensor), dtypes);
  if (writes && imported->read_only)
    refuse_layout(name_, "memory that is read-only", "memory that can be written to");
  data_ = static_cast<char*>(tensor.data) + tensor.byte_offset;
  shape_.assign(tensor.shape, tensor.shape + tensor.rank);
  std::vector<py::ssize_t> strides(shape_.size());
  auto stride = static_cast<py::ssize_t>(size_of(dtype_));
  for (size_t axis = shape_.size(); axis-- > 0;) {
    strides[axis] =
        tensor.strides ? tensor.strides[axis] * static_cast<py::ssize_t>(size_of(dtype_)) : stride;
    stride *= static_cast<py::ssize_t>(shape_[axis]);
  }
  require_layout(strides, writes);
  memory_ = imported->memory;
  return true;
}

}  // namespace ferrule::bindings
