#include "tensor.h"

#include <algorithm>
#include <numeric>

#include "errors.h"

namespace ferrule::bindings {

namespace {

struct Kind {
  Dtype dtype;
  const char* name;
  size_t size;
};

const Kind kKinds[] = {{Dtype::kFloat32, "float32", 4}, {Dtype::kFloat64, "float64", 8},
                       {Dtype::kInt8, "int8", 1},       {Dtype::kUint8, "uint8", 1},
                       {Dtype::kInt16, "int16", 2},     {Dtype::kInt32, "int32", 4},
                       {Dtype::kInt64, "int64", 8},     {Dtype::kBool, "bool", 1}};

const Kind& kind_of(Dtype dtype) { return kKinds[static_cast<size_t>(dtype)]; }

bool has_no_element(const Shape& shape) { return std::count(shape.begin(), shape.end(), 0u) > 0; }

// Bytes of a C-contiguous array; no value where no object can be as large.
std::optional<size_t> count_bytes(const Shape& shape, Dtype dtype) {
  size_t bytes = size_of(dtype);
  for (const size_t size : shape) {
    if (size > 0 && __builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  }
  if (bytes > PTRDIFF_MAX) return std::nullopt;
  return has_no_element(shape) ? 0 : bytes;
}

Shape contiguous_strides(const Shape& shape) {
  Shape strides(shape.size());
  size_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= std::max<size_t>(shape[axis], 1);
  }
  return strides;
}

std::string join_names(Dtypes dtypes) {
  std::string text;
  for (const Dtype dtype : dtypes) text += (text.empty() ? "" : " or ") + std::string(name_of(dtype));
  return text;
}

}  // namespace

size_t size_of(Dtype dtype) { return kind_of(dtype).size; }

const char* name_of(Dtype dtype) { return kind_of(dtype).name; }

std::string describe(const Shape& shape) {
  std::string text = "shape (";
  for (size_t axis = 0; axis < shape.size(); ++axis) text += (axis ? ", " : "") + std::to_string(shape[axis]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

std::string describe(const py::object& value) {
  try {
    if (py::hasattr(value, "dtype") && py::hasattr(value, "shape")) {
      const std::string shape = py::str(py::tuple(value.attr("shape")));
      return std::string(py::str(value.attr("dtype"))) + " of shape " + shape;
    }
  } catch (const py::error_already_set&) {
    // An object whose attributes raise is told by its type.
  }
  return py::type::of(value).attr("__name__").cast<std::string>();
}

Tensor Tensor::read(const py::object& value, const char* name, Dtypes dtypes, Layout layout) {
  return view(value, name, dtypes, layout, false);
}

Tensor Tensor::write(const py::object& value, const char* name, Dtypes dtypes, Layout layout) {
  return view(value, name, dtypes, layout, true);
}

Tensor Tensor::view(const py::object& value, const char* name, Dtypes dtypes, Layout layout, bool writes) {
  Tensor tensor(value, name, layout);
  if (!tensor.take_buffer(writes, dtypes) && !tensor.take_dlpack(writes, dtypes)) {
    refuse_type(name, describe(value),
                join_names(dtypes) +
                    " in a numpy array, a torch tensor, or another object with the buffer protocol or "
                    "DLPack");
  }
  if (writes && tensor.shares_elements()) {
    refuse_layout(name, "strides by which elements share memory",
                  "memory of its own for each element of an output");
  }
  return tensor;
}

Tensor Tensor::make(const char* name, const Shape& shape, Dtype dtype) {
  if (!count_bytes(shape, dtype)) refuse_size(name, describe(shape), "sizes whose product fits the memory");
  try {
    Tensor tensor(py::array(py::dtype(name_of(dtype)), shape), name, Layout::kRows);
    tensor.data_ = tensor.object_.cast<py::array>().mutable_data();
    tensor.dtype_ = dtype;
    tensor.shape_ = shape;
    tensor.strides_ = contiguous_strides(shape);
    return tensor;
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_MemoryError) && !error.matches(PyExc_ValueError)) throw;
    refuse_size(name, describe(shape), "sizes whose product fits the memory");
  }
}

Tensor Tensor::output(const py::object& out, const char* name, const Shape& shape, Dtype dtype,
                      Layout layout) {
  if (out.is_none()) return make(name, shape, dtype);
  Tensor tensor = write(out, name, {dtype}, layout);
  tensor.require_shape(shape, "the result's");
  return tensor;
}

std::optional<Tensor> read_optional(const py::object& value, const char* name, Dtypes dtypes, Layout layout) {
  if (value.is_none()) return std::nullopt;
  return Tensor::read(value, name, dtypes, layout);
}

void Tensor::require_dtype(std::optional<Dtype> found, Dtypes dtypes) {
  if (!found || std::find(dtypes.begin(), dtypes.end(), *found) == dtypes.end()) {
    refuse_type(name_, describe(object_), join_names(dtypes));
  }
  dtype_ = *found;
}

// Takes strides over; those along axes with at most one element mean nothing and become what they would be in
// a contiguous array.
void Tensor::require_layout(const std::vector<py::ssize_t>& byte_strides, bool writes) {
  const auto size = static_cast<py::ssize_t>(size_of(dtype_));
  strides_ = contiguous_strides(shape_);
  if (has_no_element(shape_)) return;
  if (reinterpret_cast<uintptr_t>(data_) % static_cast<size_t>(size) != 0) {
    refuse_layout(name_, "an address that is no multiple of " + std::to_string(size),
                  "memory aligned to " + std::string(name_of(dtype_)) + "; a copy is");
  }
  for (size_t axis = rank(); axis-- > 0;) {
    const bool last = axis + 1 == rank() && layout_ == Layout::kRows;
    const py::ssize_t stride = byte_strides[axis];
    if (shape_[axis] == 1) {
      if (axis + 1 < rank()) strides_[axis] = std::max<size_t>(strides_[axis + 1], 1) * shape_[axis + 1];
      continue;
    }
    if (stride < 0 || stride % size != 0 || (last && stride != size)) {
      refuse_layout(
          name_, "a stride of " + std::to_string(stride) + " bytes along axis " + std::to_string(axis),
          last ? "elements of the last axis side by side; " +
                     std::string(writes ? "give contiguous memory" : "numpy.ascontiguousarray copies them so")
               : "strides of zero or more whole elements; numpy.ascontiguousarray copies them so");
    }
    strides_[axis] = static_cast<size_t>(stride / size);
  }
}

size_t Tensor::count() const {
  size_t count = 1;
  for (const size_t size : shape_) count *= size;
  return count;
}

size_t Tensor::extent() const {
  if (has_no_element(shape_)) return 0;
  size_t last = 0;
  for (size_t axis = 0; axis < rank(); ++axis) last += (shape_[axis] - 1) * strides_[axis];
  return (last + 1) * size_of(dtype_);
}

bool Tensor::shares_elements() const {
  if (has_no_element(shape_)) return false;
  std::vector<size_t> axes(rank());
  std::iota(axes.begin(), axes.end(), 0u);
  std::sort(axes.begin(), axes.end(), [this](size_t a, size_t b) { return strides_[a] < strides_[b]; });
  size_t span = 0;  // from the first to the last element along the axes so far
  for (const size_t axis : axes) {
    if (shape_[axis] == 1) continue;
    if (strides_[axis] <= span) return true;
    span += (shape_[axis] - 1) * strides_[axis];
  }
  return false;
}

// False also for views that interleave, such as two blocks of columns of one array.
bool Tensor::overlaps(const Tensor& other) const {
  const auto a = reinterpret_cast<uintptr_t>(data_), b = reinterpret_cast<uintptr_t>(other.data_);
  if (extent() == 0 || other.extent() == 0 || a + extent() <= b || b + other.extent() <= a) return false;
  size_t step = 0;  // bytes that divide every stride but those of neighbouring elements
  size_t widths[2];
  const Tensor* both[] = {this, &other};
  for (size_t i = 0; i < 2; ++i) {
    const size_t size = size_of(both[i]->dtype_);
    widths[i] = size;
    for (size_t axis = 0; axis < both[i]->rank(); ++axis) {
      const size_t stride = both[i]->strides_[axis], more = both[i]->shape_[axis] - 1;
      if (stride == 1)
        widths[i] += more * size;
      else if (more > 0)
        step = std::gcd(step, stride * size);
    }
  }
  if (step == 0) return true;
  const size_t distance = (b % step + step - a % step) % step;
  return distance < widths[0] || step - distance < widths[1];
}

const Tensor& Tensor::require_rank(size_t rank) const {
  if (this->rank() != rank) {
    refuse_shape(name_, describe(shape_) + ", of rank " + std::to_string(this->rank()),
                 "rank " + std::to_string(rank));
  }
  return *this;
}

const Tensor& Tensor::require_shape(const Shape& shape, const char* reason) const {
  if (shape_ != shape) refuse_shape(name_, describe(shape_), describe(shape) + ", " + reason);
  return *this;
}

const Tensor& Tensor::require_contiguous() const {
  if (!has_no_element(shape_) && strides_ != contiguous_strides(shape_)) {
    refuse_layout(name_, "rows that do not follow each other",
                  "C-contiguous memory; numpy.ascontiguousarray makes it so");
  }
  return *this;
}

const Tensor& Tensor::require_apart(const Tensor& other, bool may_be_same) const {
  const bool same =
      data_ == other.data_ && dtype_ == other.dtype_ && shape_ == other.shape_ && strides_ == other.strides_;
  if (same ? !may_be_same : overlaps(other)) {
    refuse_layout(name_, std::string("memory that `") + other.name_ + "` has too",
                  may_be_same ? "the very same view, or memory apart" : "memory apart");
  }
  return *this;
}

const Tensor& Tensor::require_apart_from_all(
    std::initializer_list<const std::optional<Tensor>*> others) const {
  for (const auto* other : others) {
    if (*other) require_apart(**other);
  }
  return *this;
}

Rows Tensor::rows() const {
  if (rank() == 0) refuse_shape(name_, "rank 0", "rank 1 or more, rows along the last axis");
  Rows rows{1, shape_.back(), shape_.back()};
  if (has_no_element(shape_)) {
    for (size_t axis = 0; axis + 1 < rank(); ++axis) {
      if (__builtin_mul_overflow(rows.count, shape_[axis], &rows.count)) {
        refuse_size(name_, describe(shape_), "a count of rows that fits size_t");
      }
    }
    return rows;
  }
  bool first = true;  // the innermost axis with more than one row gives the stride
  for (size_t axis = rank() - 1; axis-- > 0;) {
    if (shape_[axis] == 1) continue;
    if (first) rows.stride = strides_[axis];
    if (rows.stride < rows.width || (!first && strides_[axis] != rows.stride * rows.count)) {
      refuse_layout(name_, "leading axes that are no evenly spaced rows",
                    "strides that make them one axis of rows; "
                    "numpy.ascontiguousarray copies them so");
    }
    rows.count *= shape_[axis];
    first = false;
  }
  return rows;
}

}  // namespace ferrule::bindings
