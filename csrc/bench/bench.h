// What kernel benchmarks are made of. Each op has a file here that states its shapes once, for all
// instruction sets.
#ifndef FERRULE_BENCH_BENCH_H
#define FERRULE_BENCH_BENCH_H

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <string>
#include <vector>

namespace ferrule::bench {

// Work of one call, for the share of the machine's peak.
struct Work {
  double float_ops = 0;  // 2 for a multiply-add
  double int8_ops = 0;
  double bytes = 0;  // read and written, each once
};

class Bench {
 public:
  // `once`: run each body a single time and measure nothing, for counting instructions.
  Bench(const char* op, const char* isa, bool once, double seconds)
      : op_(op), isa_(isa), once_(once), seconds_(seconds) {}

  const char* isa() const { return isa_; }
  bool counts() const { return once_; }
  // Whether work of this size is left out: where instructions are counted, the large shapes would take
  // minutes.
  bool skips(const Work& work) const;

  // Times body(round); `round` counts up, so that the body can go through several copies of its weights.
  void time(const std::string& shape, const Work& work, const std::function<void(size_t round)>& body);

 private:
  const char* op_;
  const char* isa_;
  bool once_;
  double seconds_;
};

// `count` random values: float32 of a normal distribution, or codes over the whole range of a byte.
std::vector<float> draw_floats(size_t count, uint64_t seed = 1);
std::vector<uint8_t> draw_bytes(size_t count, uint64_t seed = 1);

}  // namespace ferrule::bench

#endif
