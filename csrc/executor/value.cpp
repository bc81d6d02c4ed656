#include "executor/value.h"

#include "ferrule/arena.h"

namespace ferrule::executor {

Error::~Error() = default;

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32:
      return "float32";
    case Dtype::kInt64:
      return "int64";
    case Dtype::kInt32:
      return "int32";
    case Dtype::kBool:
      return "bool";
    case Dtype::kInt8:
      return "int8";
    case Dtype::kUint8:
      return "uint8";
  }
  return "";
}

bool find_dtype(const std::string& name, Dtype* dtype) {
  for (const Dtype known :
       {Dtype::kFloat32, Dtype::kInt64, Dtype::kInt32, Dtype::kBool, Dtype::kInt8, Dtype::kUint8}) {
    if (name == name_of(known)) return *dtype = known, true;
  }
  return false;
}

std::shared_ptr<unsigned char> allocate(size_t bytes) {
  ferrule_arena arena;
  if (!ferrule_arena_create(&arena, bytes ? bytes : 1)) {
    throw Error("FER-NAT-006",
                "There is not enough memory for an array of " + std::to_string(bytes) + " bytes.");
  }
  return {arena.memory, [arena](unsigned char*) mutable { ferrule_arena_destroy(&arena); }};
}

void Shape::check() const {
  size_t product = 1;
  bool is_empty = false;
  for (size_t axis = 0; axis < rank; ++axis) {
    is_empty = is_empty || dims[axis] == 0;
    if (__builtin_mul_overflow(product, dims[axis] ? dims[axis] : 1, &product) ||
        product > PTRDIFF_MAX / 16) {
      throw Error("FER-NAT-005", "An array of shape " + text() + " has more elements than can be counted.");
    }
  }
}

void Shape::push(size_t dim) {
  if (rank == kMostRank) throw Error("FER-NAT-005", "An array has more than 8 axes.");
  dims[rank++] = dim;
}

bool Shape::operator==(const Shape& other) const {
  if (rank != other.rank) return false;
  for (size_t axis = 0; axis < rank; ++axis) {
    if (dims[axis] != other.dims[axis]) return false;
  }
  return true;
}

std::string Shape::text() const {
  std::string text = "[";
  for (size_t axis = 0; axis < rank; ++axis) text += (axis ? ", " : "") + std::to_string(dims[axis]);
  return text + "]";
}

}  // namespace ferrule::executor
