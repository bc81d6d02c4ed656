// The file of a program: safetensors (an object of names, dtypes, shapes and places, then the bytes), in
// which the array `program.json` is the text of the graph and the metadata have a checksum of each array.
// An array of uint8 may hold several codes a byte, the first in the lowest bits: its checksum is then
// followed by what they are, as in "0123456789abcdef int4", and it is read as int8 or uint8 codes, one a
// byte.
#ifndef FERRULE_EXECUTOR_FILE_H
#define FERRULE_EXECUTOR_FILE_H

#include <stdio.h>

#include <memory>
#include <string>
#include <vector>

#include "executor/node.h"

namespace ferrule::executor {

// Codes of fewer than 8 bits.
struct Packing {
  const char* name;
  unsigned bits;
  bool is_signed;
};

class ProgramFile : public Constants {
 public:
  // Reads the header. Throws Error FER-NAT-001 for a file that cannot be read, is cut short or is none.
  explicit ProgramFile(const std::string& path);
  Constant read(const std::string& name) const override;
  std::string read_text(const std::string& name) const;  // of an array of uint8

 private:
  struct Entry {
    std::string name;
    Spec spec;  // as the file holds it
    uint64_t begin, bytes, checksum;
    const Packing* packing;  // of codes, or nullptr
  };
  struct Closer {
    void operator()(FILE* file) const { fclose(file); }
  };
  [[noreturn]] void refuse(const std::string& what) const;
  const Entry& find(const std::string& name) const;
  void read_bytes(uint64_t begin, void* to, uint64_t bytes) const;
  void read_header(uint64_t file_bytes);
  void add_entry(const std::string& name, const Json& json, const Json* sum, uint64_t data,
                 uint64_t data_bytes);
  void read_sum(const std::string& text, Entry* entry) const;

  std::string path_;
  std::unique_ptr<FILE, Closer> file_;
  std::vector<Entry> entries_;
};

}  // namespace ferrule::executor

#endif
