#include "vendors/run.h"

#include <algorithm>

#include "ferrule/arena.h"

namespace ferrule::vendors {

namespace {

struct Scratch {
  ferrule_arena arena = {};
  ~Scratch() { ferrule_arena_destroy(&arena); }
};

}  // namespace

void* take_scratch(size_t bytes) {
  thread_local Scratch scratch;
  if (scratch.arena.capacity < bytes || !scratch.arena.memory) {
    ferrule_arena_destroy(&scratch.arena);
    scratch.arena = {};
    if (!ferrule_arena_create(&scratch.arena, std::max<size_t>(bytes, 1))) return nullptr;
  }
  return scratch.arena.memory;
}

bool has_sizes(const Tensor& tensor, std::initializer_list<size_t> sizes) {
  return tensor.absent ||
         (tensor.rank == sizes.size() && std::equal(sizes.begin(), sizes.end(), tensor.sizes));
}

void set_sizes(Tensor* tensor, std::initializer_list<size_t> sizes) {
  tensor->rank = sizes.size();
  std::copy(sizes.begin(), sizes.end(), tensor->sizes);
}

}  // namespace ferrule::vendors
