#ifndef FERRULE_BINDINGS_TENSOR_H
#define FERRULE_BINDINGS_TENSOR_H

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ferrule::bindings {

namespace py = pybind11;

enum class Dtype { kFloat32, kFloat64, kInt8, kUint8, kInt16, kInt32, kInt64, kBool };
using Dtypes = std::initializer_list<Dtype>;
using Shape = std::vector<size_t>;

// Whether the elements of the last axis must stand side by side, or may have any stride.
enum class Layout { kRows, kStrided };

// All axes of a tensor but the last, taken as one.
struct Rows {
  size_t count;
  size_t width;
  size_t stride;  // elements from row to row, at least `width`
};

// A view of the memory of a Python object: one with the buffer protocol (numpy, memoryview, array) or with
// DLPack in main memory (torch, jax). Nothing is copied; the object's memory is held until the view goes,
// which must be under the GIL. What holds for every view: no stride is negative, every element is aligned to
// its type, and in the layout kRows the elements of the last axis stand side by side.
class Tensor {
 public:
  // Throw TypeRefused or ValueRefused; `write` refuses memory that is read-only, or that two elements share.
  static Tensor read(const py::object& value, const char* name, Dtypes dtypes, Layout layout = Layout::kRows);
  static Tensor write(const py::object& value, const char* name, Dtypes dtypes,
                      Layout layout = Layout::kRows);
  // A new numpy array whose values are not set yet.
  static Tensor make(const char* name, const Shape& shape, Dtype dtype);
  // `out`, of exactly this shape and dtype; a new array where it is None.
  static Tensor output(const py::object& out, const char* name, const Shape& shape, Dtype dtype,
                       Layout layout = Layout::kRows);

  template <typename T>
  T* data() const {
    return static_cast<T*>(data_);
  }
  Dtype dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  size_t rank() const { return shape_.size(); }
  size_t size(size_t axis) const { return shape_[axis]; }
  size_t stride(size_t axis) const { return strides_[axis]; }  // in elements
  size_t count() const;                                        // of elements
  const py::object& object() const { return object_; }         // what was viewed, or the new array

  // Throw ValueRefused; `reason` says where the shape comes from. They return the tensor, so that calls can
  // be chained.
  const Tensor& require_rank(size_t rank) const;
  const Tensor& require_shape(const Shape& shape, const char* reason) const;
  const Tensor& require_contiguous() const;
  // Refuses memory in common; `may_be_same` allows the two to be one view.
  const Tensor& require_apart(const Tensor& other, bool may_be_same = false) const;
  const Tensor& require_apart_from_all(std::initializer_list<const std::optional<Tensor>*> others) const;

  // Refuses rank 0, and strides by which the leading axes are no evenly spaced rows.
  Rows rows() const;

 private:
  Tensor(const py::object& value, const char* name, Layout layout)
      : name_(name), layout_(layout), object_(value) {}

  static Tensor view(const py::object& value, const char* name, Dtypes dtypes, Layout layout, bool writes);
  bool take_buffer(bool writes, Dtypes dtypes);
  bool take_dlpack(bool writes, Dtypes dtypes);
  void require_dtype(std::optional<Dtype> found, Dtypes dtypes);
  void require_layout(const std::vector<py::ssize_t>& byte_strides, bool writes);
  bool shares_elements() const;
  bool overlaps(const Tensor& other) const;
  size_t extent() const;  // bytes from the first element to the end of the last

  const char* name_;
  Layout layout_;
  py::object object_;
  void* data_ = nullptr;
  Dtype dtype_ = Dtype::kFloat32;
  Shape shape_;
  Shape strides_;
  std::shared_ptr<void> memory_;  // gives the buffer or the DLPack tensor back
};

// The view of an argument that may be None.
std::optional<Tensor> read_optional(const py::object& value, const char* name, Dtypes dtypes,
                                    Layout layout = Layout::kRows);

// Address of the elements, or NULL for an argument that was None.
template <typename T>
T* data_of(const std::optional<Tensor>& tensor) {
  return tensor ? tensor->data<T>() : nullptr;
}

size_t size_of(Dtype dtype);
const char* name_of(Dtype dtype);

// "float32 of shape (2, 3)"; the name of the type where the value has neither dtype nor shape.
std::string describe(const py::object& value);
std::string describe(const Shape& shape);

}  // namespace ferrule::bindings

#endif
