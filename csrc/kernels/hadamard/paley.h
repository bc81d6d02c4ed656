// Hadamard matrices by Paley's constructions, computed when this is compiled (Paley, On Orthogonal Matrices,
// 1933).
#ifndef FERRULE_KERNELS_HADAMARD_PALEY_H
#define FERRULE_KERNELS_HADAMARD_PALEY_H

#include <stddef.h>
#include <stdint.h>

namespace {

// 1 where `x` is a square modulo the prime `q` and not 0, -1 where it is none.
constexpr int legendre(int x, int q) {
  x = (x % q + q) % q;
  if (x == 0) return 0;
  for (int root = 1; root < q; ++root) {
    if (root * root % q == x) return 1;
  }
  return -1;
}

// The conference matrix of order q + 1: zeros on the diagonal, a border of ones, and residues inside. The
// border's column is negative where q is 3 modulo 4, which makes the matrix skew instead of symmetric.
constexpr int conference(int i, int j, int q) {
  if (i == j) return 0;
  if (i == 0) return 1;
  if (j == 0) return q % 4 == 3 ? -1 : 1;
  return legendre(i - j, q);
}

// The entry of the matrix of order m. First construction, where q = m - 1 is a prime that is 3 modulo 4: C
// + 1. Second, where q = m / 2 - 1 is a prime that is 1 modulo 4: each 0 of C becomes [1 -1; -1 -1], each +-1
// +-[1 1; 1 -1].
constexpr int paley_entry(int i, int j, int m) {
  if (m == 12 || m == 20 || m == 60) return i == j ? 1 : conference(i, j, m - 1);
  const int c = conference(i / 2, j / 2, m / 2 - 1);
  const bool both = i % 2 == 1 && j % 2 == 1;
  if (c == 0) return i % 2 == 0 && j % 2 == 0 ? 1 : -1;
  return both ? -c : c;
}

// For each row the signs of four neighbouring columns in four bits, 1 for minus.
template <int kOrder>
struct Paley {
  uint8_t signs[kOrder][kOrder / 4];
};

template <int kOrder>
constexpr Paley<kOrder> make_paley(bool transposed) {
  Paley<kOrder> matrix = {};
  for (int i = 0; i < kOrder; ++i) {
    for (int j = 0; j < kOrder; ++j) {
      const int entry = transposed ? paley_entry(j, i, kOrder) : paley_entry(i, j, kOrder);
      if (entry < 0) matrix.signs[i][j / 4] = static_cast<uint8_t>(matrix.signs[i][j / 4] | 1 << j % 4);
    }
  }
  return matrix;
}

template <int kOrder>
constexpr Paley<kOrder> kPaley[2] = {make_paley<kOrder>(false), make_paley<kOrder>(true)};

// m of a width m * 2^k, 0 where there is none; see ferrule_hadamard_order.
inline size_t order_of(size_t width) {
  const size_t orders[] = {1, 12, 20, 28, 36, 60};
  for (const size_t order : orders) {
    const size_t rest = width / order;
    if (rest * order == width && rest != 0 && (rest & (rest - 1)) == 0) return order;
  }
  return 0;
}

}  // namespace

#endif
