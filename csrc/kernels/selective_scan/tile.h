// Tiles of kTile neighbouring channels in memory of their own, [rows][kTile], from and to arrays of any
// strides. Over the names of simd/README.md.

namespace {

constexpr size_t kTile = FERRULE_SCAN_CHANNELS;

// Where an element of a tile lies in its array.
struct Place {
  size_t row, channel;  // elements from one to the next
};

// kLanes rows and channels, of which some may be beyond the array; channels beyond are zero in the tile.
inline void read_square(const float* from, size_t stride, size_t rows, size_t channels, float* tile) {
  F32 v[kLanes];
#pragma GCC unroll 16
  for (size_t i = 0; i < kLanes; ++i) v[i] = i < channels ? load_some(from + i * stride, rows) : zeros();
  transpose(v);
#pragma GCC unroll 16
  for (size_t i = 0; i < kLanes; ++i) {
    if (i < rows) store(tile + i * kTile, v[i]);
  }
}

inline void write_square(float* to, size_t stride, size_t rows, size_t channels, const float* tile) {
  F32 v[kLanes];
#pragma GCC unroll 16
  for (size_t i = 0; i < kLanes; ++i) v[i] = i < rows ? load(tile + i * kTile) : zeros();
  transpose(v);
#pragma GCC unroll 16
  for (size_t i = 0; i < kLanes; ++i) {
    if (i < channels) store_some(to + i * stride, v[i], rows);
  }
}

inline size_t at_most(size_t count, size_t limit) { return count < limit ? count : limit; }

// Fills whole vectors: what they hold beyond the channels is zero.
void read_tile(const float* from, Place place, size_t rows, size_t channels, float* tile) {
  for (size_t c = 0; c < channels; c += kLanes) {
    const size_t lanes = at_most(channels - c, kLanes);
    if (place.channel == 1) {
      for (size_t r = 0; r < rows; ++r) {
        store(tile + r * kTile + c, load_some(from + r * place.row + c, lanes));
      }
    } else if (place.row == 1) {
      for (size_t r = 0; r < rows; r += kLanes) {
        read_square(from + c * place.channel + r, place.channel, at_most(rows - r, kLanes), lanes,
                    tile + r * kTile + c);
      }
    } else {
      for (size_t i = 0; i < rows * kLanes; ++i) {
        const size_t r = i / kLanes, k = i % kLanes;
        tile[r * kTile + c + k] = k < lanes ? from[r * place.row + (c + k) * place.channel] : 0;
      }
    }
  }
}

void write_tile(float* to, Place place, size_t rows, size_t channels, const float* tile) {
  for (size_t c = 0; c < channels; c += kLanes) {
    const size_t lanes = at_most(channels - c, kLanes);
    if (place.channel == 1) {
      for (size_t r = 0; r < rows; ++r) store_some(to + r * place.row + c, load(tile + r * kTile + c), lanes);
    } else if (place.row == 1) {
      for (size_t r = 0; r < rows; r += kLanes) {
        write_square(to + c * place.channel + r, place.channel, at_most(rows - r, kLanes), lanes,
                     tile + r * kTile + c);
      }
    } else {
      for (size_t i = 0; i < rows * lanes; ++i) {
        const size_t r = i / lanes, k = i % lanes;
        to[r * place.row + (c + k) * place.channel] = tile[r * kTile + c + k];
      }
    }
  }
}

}  // namespace
