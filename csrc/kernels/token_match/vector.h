// Token matching over the names of simd/README.md; included by the file of each instruction set, which states
// before it kPanelVectors, how many vectors of destinations a tile is wide.

namespace {

constexpr size_t kPanel = kPanelVectors * kLanes;
constexpr size_t kSums = 16 / kLanes;  // vectors that hold the 16 sums of squares

void average_heads(const ferrule_token_match_args& args, size_t entry, float* means) {
  const F32 share = splat(1 / static_cast<float>(args.heads));
  for (size_t t = 0; t < args.tokens; ++t) {
    const float* row = args.metric + entry * args.batch_stride + t * args.token_stride;
    for_vectors(args.width, [&](size_t i, size_t count) {
      F32 total = load_some(row + i, count);
      for (size_t h = 1; h < args.heads; ++h)
        total = add(total, load_some(row + h * args.head_stride + i, count));
      store_some(means + t * args.width + i, mul(total, share), count);
    });
  }
}

float invert_length_of(const float* row, size_t width) {
  F32 sums[kSums];
  for (size_t v = 0; v < kSums; ++v) sums[v] = zeros();
  size_t i = 0;
  for (; i + 16 <= width; i += 16) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kSums; ++v) {
      const F32 x = load(row + i + v * kLanes);
      sums[v] = fma(x, x, sums[v]);
    }
  }
  float squares[16];
  for (size_t v = 0; v < kSums; ++v) store(squares + v * kLanes, sums[v]);
  for (size_t k = 0; i < width; ++i, ++k) squares[k] = fmaf(row[i], row[i], squares[k]);
  return invert_length(squares, width);
}

// Destinations [first, first + kLanes) with the element before the token: [width][kLanes], kPanel elements
// apart.
void pack_lanes(const Matching& m, size_t first, size_t width, float* packed) {
  const float* rows[kLanes];
  for (size_t j = 0; j < kLanes; ++j)
    rows[j] = first + j < m.destinations ? destination_row(m, first + j) : nullptr;
  for (size_t i = 0; i < width; i += kLanes) {
    const size_t count = width - i < kLanes ? width - i : kLanes;
    F32 v[kLanes];
#pragma GCC unroll 16
    for (size_t j = 0; j < kLanes; ++j) v[j] = rows[j] ? load_some(rows[j] + i, count) : zeros();
    transpose(v);
#pragma GCC unroll 16
    for (size_t j = 0; j < kLanes; ++j) {
      if (j < count) store(packed + (i + j) * kPanel, v[j]);
    }
  }
}

// Products of kTileRows rows with kVectors vectors of destinations, times their inverse lengths. scores:
// [kTileRows], `stride` apart.
template <size_t kVectors>
void multiply_tile(const float* const (&rows)[kTileRows], const float* packed, const float* inverse,
                   size_t width, float* scores, size_t stride) {
  F32 sums[kTileRows][kVectors];
#pragma GCC unroll 6
  for (size_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) sums[r][v] = zeros();
  }
  for (size_t i = 0; i < width; ++i, packed += kPanel) {
    F32 b[kVectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) b[v] = load(packed + v * kLanes);
#pragma GCC unroll 6
    for (size_t r = 0; r < kTileRows; ++r) {
      const F32 a = splat(rows[r][i]);
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) sums[r][v] = fma(a, b[v], sums[r][v]);
    }
  }
#pragma GCC unroll 6
  for (size_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      store(scores + r * stride + v * kLanes, mul(sums[r][v], load(inverse + v * kLanes)));
    }
  }
}

// The first of the greatest scores.
void take_best(const Matching& m, const float* scores, size_t source) {
  F32 greatest = splat(-INFINITY);
  for_vectors(m.destinations, [&](size_t i, size_t count) {
    const F32 some = load_some(scores + i, count);
    greatest = max(count == kLanes ? some : keep_first(some, count, -INFINITY), greatest);
  });
  const float best = max_lanes(greatest);
  size_t at = 0;
  while (at < m.destinations && !(scores[at] == best)) ++at;
  m.partner[source] = at < m.destinations && best > -INFINITY ? static_cast<int32_t>(at) : 0;
  m.best[source] = best;
}

void find_partners(const Matching& m, size_t columns, size_t width) {
  for (size_t i = 0; i < m.sources; i += kTileRows) {
    const float* rows[kTileRows];
    for (size_t r = 0; r < kTileRows; ++r) rows[r] = source_row(m, i + r < m.sources ? i + r : m.sources - 1);
    for (size_t j = 0; j < m.destinations; j += kPanel) {
      const float* packed = m.packed + j * width;
      const size_t vectors = (m.destinations - j + kLanes - 1) / kLanes;
      float* scores = m.scores + j;
      if (vectors == 1)
        multiply_tile<1>(rows, packed, m.inverse + j, width, scores, columns);
      else if (vectors == 2 || kPanelVectors == 2)
        multiply_tile<2>(rows, packed, m.inverse + j, width, scores, columns);
      else if (vectors == 3)
        multiply_tile<3>(rows, packed, m.inverse + j, width, scores, columns);
      else
        multiply_tile<kPanelVectors>(rows, packed, m.inverse + j, width, scores, columns);
    }
    for (size_t r = 0; r < kTileRows && i + r < m.sources; ++r) {
      take_best(m, m.scores + r * columns, i + r);
      m.best[i + r] *= invert_length_of(rows[r], width);
    }
  }
}

void token_match(const ferrule_token_match_args& args, size_t begin, size_t end, void* scratch) {
  const size_t columns = lay_out(args).columns, width = args.width;
  for (size_t entry = begin; entry < end; ++entry) {
    const Matching m = begin_matching(args, entry, scratch);
    const size_t count = count_merges(args, entry, m);
    if (count > 0) {
      if (args.heads > 1) average_heads(args, entry, m.means);
      for (size_t j = 0; j < m.destinations; j += kLanes) {
        pack_lanes(m, j, width, m.packed + j / kPanel * kPanel * width + j % kPanel);
      }
      for (size_t j = 0; j < columns; ++j) {
        m.inverse[j] = j < m.destinations ? invert_length_of(destination_row(m, j), width) : 0;
      }
      find_partners(m, columns, width);
      choose_sources(m, count);
    }
    place_tokens(args, entry, m, count);
  }
}

}  // namespace
