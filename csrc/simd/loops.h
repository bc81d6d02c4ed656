// Loops over rows of vectors, over the names of simd/{avx2,avx512,neon}.h, which include this file.
#ifndef FERRULE_SIMD_LOOPS_H
#define FERRULE_SIMD_LOOPS_H

namespace {

inline F32 load_some(const float* p, size_t count) {
  return count == kLanes ? load(p) : load_first(p, count);
}

inline void store_some(float* p, F32 x, size_t count) {
  if (count == kLanes)
    store(p, x);
  else
    store_first(p, x, count);
}

// Calls body(index, count) for whole vectors, count == kLanes, then for the rest of the row, if there is one.
template <typename Body>
inline void for_vectors(size_t width, Body body) {
  size_t i = 0;
  for (; i + kLanes <= width; i += kLanes) body(i, kLanes);
  if (i < width) body(i, width - i);
}

}  // namespace

#endif
