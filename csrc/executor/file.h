// The file of a program: safetensors, in which the array `program.json` is the text of the graph and the
// metadata have a checksum of each array. An array of uint8 may hold several codes a byte, the first in the
// lowest bits: its checksum is then followed by what they are, as in "0123456789abcdef int4", and it is read
// as int8 or uint8 codes, one a byte.
#ifndef FERRULE_EXECUTOR_FILE_H
#define FERRULE_EXECUTOR_FILE_H

#include <string>

#include "executor/codes.h"
#include "executor/node.h"
#include "executor/safetensors.h"

namespace ferrule::executor {

class ProgramFile : public Constants {
 public:
  // Reads the header. Throws Error FER-NAT-001 for a file that cannot be read, is cut short or is none.
  explicit ProgramFile(const std::string& path);
  Constant read(const std::string& name, const Allocate& allocate) const override;
  Constant map(const std::string& name) const override;
  size_t bytes() const override;
  std::string read_text(const std::string& name) const;  // of an array of uint8

 private:
  const Safetensors::Entry& find(const std::string& name) const;
  // What the metadata tell of an array.
  struct Sum {
    uint64_t checksum;
    const Packing* packing;  // of codes, or nullptr
  };
  Sum read_sum(const Safetensors::Entry& entry) const;
  void verify(const Safetensors::Entry& entry, const Sum& sum, const void* bytes) const;

  Safetensors file_;
};

}  // namespace ferrule::executor

#endif
