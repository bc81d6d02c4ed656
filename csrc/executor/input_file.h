// A file, open for reading at any place.
#ifndef FERRULE_EXECUTOR_INPUT_FILE_H
#define FERRULE_EXECUTOR_INPUT_FILE_H

#include <stdint.h>

#include <memory>
#include <string>

namespace ferrule::executor {

class InputFile {
 public:
  enum class Links : uint8_t { kFollowed, kRefused };  // a path that ends in a symbolic link

  InputFile(const std::string& path, Links links);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  bool is_open() const { return handle_ >= 0; }  // else errno says why
  bool find_size(uint64_t* bytes) const;         // false where the system does not tell
  // As many bytes from `begin` on as there are and `to` has room for; -1 where they cannot be read.
  int64_t read(uint64_t begin, void* to, uint64_t bytes) const;
  // These bytes where they lie in the file, read-only; NULL where that cannot be. They are what the file
  // holds when they are looked at; where it has been cut short since, the system ends the process (SIGBUS).
  std::shared_ptr<unsigned char> map(uint64_t begin, uint64_t bytes) const;

 private:
  int handle_;
};

}  // namespace ferrule::executor

#endif
