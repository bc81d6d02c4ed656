// Files for the tests of the executor: safetensors, programs, and a whole bundle.
#ifndef FERRULE_TESTS_FILES_H
#define FERRULE_TESTS_FILES_H

#include <stdio.h>

#include <string>
#include <vector>

namespace ferrule::tests {

// An array of a file; dtype as safetensors names it, shape as "6,8".
struct StoredArray {
  std::string name, dtype, shape, bytes;
  std::string packing = "";  // what follows the checksum in a program's file
};

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// metadata: the members of its object, or "".
std::string safetensors_bytes(const std::vector<StoredArray>& parts, const std::string& metadata);

// A program's file: the graph as program.json among the parts, and the right checksum of each.
std::string program_bytes(const std::string& graph, std::vector<StoredArray> parts);

void write_file(const std::string& path, const std::string& bytes);
std::string read_file(const std::string& path);

// A file that ends with it.
class TemporaryFile {
 public:
  TemporaryFile();
  ~TemporaryFile() { remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const char* path() const { return path_; }
  void write(const std::string& bytes) const { write_file(path_, bytes); }

 private:
  char path_[32] = "/tmp/ferrule-test-XXXXXX";
};

// Writes a bundle of one linear layer with ReLU into the folder, which is made where it is not there. The
// answers of its proof are reckoned here, in double.
void write_bundle(const std::string& folder);

// Writes the manifest: `facts` are members with names after "files" (", \"program\": ..."), `files` those
// that it names, each with the hash that it has now.
void write_manifest(const std::string& folder, std::vector<std::string> files, const std::string& facts);

// The facts and files of the bundle that write_bundle writes.
extern const char* const kBundleFacts;
extern const std::vector<std::string> kBundleFiles;

}  // namespace ferrule::tests

#endif
