// The proof of a bundle, proof.safetensors: arrays called <row>/<input|reference|compressed>/<name>
// (sdk/proof.py).
#ifndef FERRULE_EXECUTOR_PROOF_H
#define FERRULE_EXECUTOR_PROOF_H

#include <memory>
#include <string>
#include <vector>

#include "executor/safetensors.h"

namespace ferrule::executor {

// Inputs that travel with the bundle, and the answers of the model that it was made from, which is float32.
class Proof {
 public:
  explicit Proof(const std::string& path);  // throws Error FER-NAT-001
  size_t count() const { return count_; }

  // The arrays of a row in the order of `ports`. Their memory goes to `held`. Throws Error FER-NAT-001 where
  // one is lacking.
  template <typename Port>
  std::vector<Array> read(size_t row, const char* part, const std::vector<Port>& ports,
                          std::vector<std::shared_ptr<unsigned char>>* held) const {
    std::vector<Array> arrays;
    for (const Port& port : ports) arrays.push_back(read_one(row, part, port.name, held));
    return arrays;
  }

 private:
  Array read_one(size_t row, const char* part, const std::string& name,
                 std::vector<std::shared_ptr<unsigned char>>* held) const;

  Safetensors file_;
  size_t count_ = 0;
};

}  // namespace ferrule::executor

#endif
