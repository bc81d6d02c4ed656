#include "executor/bundle.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <map>
#include <memory>
#include <vector>

#include "executor/input_file.h"
#include "executor/sha256.h"
#include "executor/value.h"

namespace ferrule::executor {

namespace {

constexpr size_t kDeepestFolder = 32, kMostTold = 3;
const char* const kManifest = "manifest.json";

// Calls take(bytes, count) for all of a file, which no symbolic link leads to. False where it cannot be read,
// or `take` returns false.
template <typename Take>
bool read_all(const InputFile& file, const Take& take) {
  std::vector<unsigned char> block(1 << 16);
  int64_t count = file.is_open() ? 1 : -1;
  for (uint64_t begin = 0; count > 0; begin += static_cast<uint64_t>(count)) {
    count = file.read(begin, block.data(), block.size());
    if (count > 0 && !take(block.data(), static_cast<size_t>(count))) return false;
  }
  return count == 0;
}

std::string read_manifest_text(const std::string& path) {
  const InputFile file(path, InputFile::Links::kRefused);
  if (!file.is_open())
    throw Error("FER-NAT-009", path + " cannot be opened: " + std::string(strerror(errno)) + ".");
  std::string text;
  const bool is_read = read_all(file, [&text](const unsigned char* bytes, size_t count) {
    text.append(reinterpret_cast<const char*>(bytes), count);
    return text.size() <= kMostManifestBytes;
  });
  if (!is_read) throw Error("FER-NAT-009", path + " cannot be read, or is too large.");
  return text;
}

// Path relative to the bundle's folder -> its kind, as st_mode has it.
using Found = std::map<std::string, mode_t>;

// Everything below `folder`/`below` that is no folder.
void list_files(const std::string& folder, const std::string& below, size_t depth, Found* found) {
  const std::string path = below.empty() ? folder : folder + "/" + below;
  const std::unique_ptr<DIR, int (*)(DIR*)> opened(opendir(path.c_str()), closedir);
  if (!opened || depth > kDeepestFolder || found->size() > kMostFiles)
    throw Error("FER-NAT-011", path + " cannot be listed, or holds too many files and folders.");
  while (const dirent* entry = readdir(opened.get())) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    const std::string name = below.empty() ? entry->d_name : below + "/" + entry->d_name;
    struct stat facts = {};
    if (lstat((folder + "/" + name).c_str(), &facts) != 0) continue;  // it has just gone
    if (S_ISDIR(facts.st_mode))
      list_files(folder, name, depth + 1, found);
    else
      (*found)[name] = facts.st_mode;
  }
}

std::string hash_file(const std::string& path) {
  const InputFile file(path, InputFile::Links::kRefused);
  Sha256 sum;
  const bool is_read = read_all(file, [&sum](const unsigned char* bytes, size_t count) {
    sum.add(bytes, count);
    return true;
  });
  return is_read ? sum.finish() : "";
}

std::vector<std::string> find_problems(const std::string& folder, const Manifest& manifest) {
  Found found;
  list_files(folder, "", 0, &found);
  found.erase(kManifest);
  std::vector<std::string> problems;
  for (const auto& [name, mode] : found) {
    const auto listed = manifest.files.find(name);
    if (listed == manifest.files.end())
      problems.push_back(name + " is not in the manifest");
    else if (S_ISLNK(mode))
      problems.push_back(name + " is a symbolic link");
    else if (!S_ISREG(mode))
      problems.push_back(name + " is no regular file");
    else if (hash_file(folder + "/" + name) != listed->second)
      problems.push_back(name + " was changed: its sha256 differs from the manifest's");
  }
  for (const auto& file : manifest.files) {
    if (!found.count(file.first)) problems.push_back(file.first + " is missing");
  }
  return problems;
}

}  // namespace

Manifest verify_bundle(const std::string& folder) {
  const std::string path = folder + "/" + kManifest;
  Manifest manifest = read_manifest(read_manifest_text(path), path);
  const std::vector<std::string> problems = find_problems(folder, manifest);
  if (problems.empty()) return manifest;
  std::string told;
  for (size_t i = 0; i < problems.size() && i < kMostTold; ++i) told += (i ? "; " : "") + problems[i];
  if (problems.size() > kMostTold) told += "; and " + std::to_string(problems.size() - kMostTold) + " more";
  throw Error("FER-NAT-011", folder + " is damaged: " + told + ".");
}

}  // namespace ferrule::executor
