// A safetensors file: an object of names, dtypes, shapes and places, then the bytes.
#ifndef FERRULE_EXECUTOR_SAFETENSORS_H
#define FERRULE_EXECUTOR_SAFETENSORS_H

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "executor/input_file.h"
#include "executor/json.h"
#include "executor/value.h"

namespace ferrule::executor {

class Safetensors {
 public:
  struct Entry {
    std::string name;
    Spec spec;
    uint64_t begin, bytes;  // in the file
  };

  // Reads the header. Throws Error FER-NAT-001 for a file that cannot be read, is cut short or is none, and
  // for an array of a dtype that programs lack.
  explicit Safetensors(const std::string& path);

  const std::vector<Entry>& entries() const { return entries_; }  // by name
  const Entry* find(const std::string& name) const;               // NULL where there is none
  const std::string& metadata(const std::string& name) const;     // "" where there is none
  void read(const Entry& entry, void* to) const;                  // the bytes; throws Error FER-NAT-001
  // As InputFile::map; NULL as well where the array is not aligned to its dtype.
  std::shared_ptr<unsigned char> map(const Entry& entry) const;
  [[noreturn]] void refuse(const std::string& what) const;  // Error FER-NAT-001: "<path> <what>."

 private:
  void read_bytes(uint64_t begin, void* to, uint64_t bytes) const;
  void read_header(uint64_t file_bytes);
  void add_entry(const std::string& name, const Json& json, uint64_t data, uint64_t data_bytes);

  std::string path_;
  InputFile file_;
  std::map<std::string, std::string> metadata_;
  std::vector<Entry> entries_;
};

}  // namespace ferrule::executor

#endif
