#include "executor/input_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace ferrule::executor {

InputFile::InputFile(const std::string& path, Links links)
    : handle_(open(path.c_str(), O_RDONLY | O_CLOEXEC | (links == Links::kRefused ? O_NOFOLLOW : 0))) {}

InputFile::~InputFile() {
  if (handle_ >= 0) close(handle_);
}

bool InputFile::find_size(uint64_t* bytes) const {
  struct stat facts = {};
  if (fstat(handle_, &facts) != 0 || facts.st_size < 0) return false;
  *bytes = static_cast<uint64_t>(facts.st_size);
  return true;
}

int64_t InputFile::read(uint64_t begin, void* to, uint64_t bytes) const {
  constexpr uint64_t kMost = 1 << 30;  // that every system reads at once
  uint64_t done = 0;
  while (done < bytes) {
    const ssize_t count =
        pread(handle_, static_cast<unsigned char*>(to) + done,
              static_cast<size_t>(std::min(bytes - done, kMost)), static_cast<off_t>(begin + done));
    if (count == 0) break;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -1;
    done += static_cast<uint64_t>(count);
  }
  return static_cast<int64_t>(done);
}

std::shared_ptr<unsigned char> InputFile::map(uint64_t begin, uint64_t bytes) const {
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE)), lead = begin % page;
  if (bytes == 0 || bytes > PTRDIFF_MAX - page) return nullptr;
  const auto size = static_cast<size_t>(lead + bytes);
  void* mapped = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, handle_, static_cast<off_t>(begin - lead));
  if (mapped == MAP_FAILED) return nullptr;
  return {static_cast<unsigned char*>(mapped) + lead,
          [mapped, size](unsigned char*) { munmap(mapped, size); }};
}

}  // namespace ferrule::executor
