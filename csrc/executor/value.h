// What flows through a program: dtypes, shapes, and contiguous arrays.
#ifndef FERRULE_EXECUTOR_VALUE_H
#define FERRULE_EXECUTOR_VALUE_H

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace ferrule::executor {

enum class Dtype : uint8_t { kFloat32, kInt64, kInt32, kBool, kInt8, kUint8 };

inline size_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32:
    case Dtype::kInt32:
      return 4;
    case Dtype::kInt64:
      return 8;
    case Dtype::kBool:
    case Dtype::kInt8:
    case Dtype::kUint8:
      return 1;
  }
  return 0;
}

const char* name_of(Dtype dtype);

// The dtype of that name; false where there is none.
bool find_dtype(const std::string& name, Dtype* dtype);

// A problem with a program or its inputs; `code` is stable, FER-NAT-... (docs/errors.md).
class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code(code) {}
  Error(const Error&) = default;
  ~Error() override;
  const char* code;
};

// FERRULE_ALIGNMENT-aligned memory. Throws Error FER-NAT-006.
std::shared_ptr<unsigned char> allocate(size_t bytes);

constexpr size_t kMostRank = 8;

struct Shape {
  size_t rank = 0;
  size_t dims[kMostRank] = {};

  size_t operator[](size_t axis) const { return dims[axis]; }
  size_t& operator[](size_t axis) { return dims[axis]; }
  size_t back() const { return rank ? dims[rank - 1] : 1; }
  // Elements; at most PTRDIFF_MAX / 8 for every shape that Shape::check has passed.
  size_t count() const {
    size_t product = 1;
    for (size_t axis = 0; axis < rank; ++axis) product *= dims[axis];
    return product;
  }
  // Throws Error FER-NAT-005 where the elements cannot be counted in bytes.
  void check() const;
  void push(size_t dim);  // throws Error FER-NAT-005 beyond kMostRank
  bool operator==(const Shape& other) const;
  bool operator!=(const Shape& other) const { return !(*this == other); }
  std::string text() const;  // [1, 128, 384]
};

// What a value is, for given lengths of the dynamic axes.
struct Spec {
  Dtype dtype = Dtype::kFloat32;
  Shape shape;
  size_t bytes() const { return shape.count() * size_of(dtype); }
};

// An array: contiguous, in row-major order.
struct Array {
  Spec spec;
  void* data = nullptr;

  const Shape& shape() const { return spec.shape; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace ferrule::executor

#endif
