// The file of a program: safetensors (an object of names, dtypes, shapes and places, then the bytes), in
// which the array `program.json` is the text of the graph and the metadata have a checksum of each array.
#ifndef FERRULE_EXECUTOR_FILE_H
#define FERRULE_EXECUTOR_FILE_H

#include <stdio.h>

#include <memory>
#include <string>
#include <vector>

#include "executor/node.h"

namespace ferrule::executor {

class ProgramFile : public Constants {
 public:
  // Reads the header. Throws Error FER-NAT-001 for a file that cannot be read, is cut short or is none.
  explicit ProgramFile(const std::string& path);
  Constant read(const std::string& name) const override;
  std::string read_text(const std::string& name) const;  // of an array of uint8

 private:
  struct Entry {
    std::string name;
    Spec spec;
    uint64_t begin, bytes, checksum;
  };
  struct Closer {
    void operator()(FILE* file) const { fclose(file); }
  };
  [[noreturn]] void refuse(const std::string& what) const;
  const Entry& find(const std::string& name) const;
  void read_bytes(uint64_t begin, void* to, uint64_t bytes) const;
  void read_header(uint64_t file_bytes);
  void add_entry(const std::string& name, const Json& json, const Json* sums, uint64_t data,
                 uint64_t data_bytes);

  std::string path_;
  std::unique_ptr<FILE, Closer> file_;
  std::vector<Entry> entries_;
};

}  // namespace ferrule::executor

#endif
