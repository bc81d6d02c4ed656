#include "executor/safetensors.h"

#include <errno.h>
#include <string.h>

#include <algorithm>

namespace ferrule::executor {

namespace {

constexpr uint64_t kMostHeaderBytes = 100 << 20;

bool read_dtype(const std::string& name, Dtype* dtype) {
  static const std::pair<const char*, Dtype> kNames[] = {{"F32", Dtype::kFloat32}, {"I64", Dtype::kInt64},
                                                         {"I32", Dtype::kInt32},   {"BOOL", Dtype::kBool},
                                                         {"I8", Dtype::kInt8},     {"U8", Dtype::kUint8}};
  for (const auto& [known, value] : kNames) {
    if (name == known) return *dtype = value, true;
  }
  return false;
}

}  // namespace

void Safetensors::refuse(const std::string& what) const {
  throw Error("FER-NAT-001", path_ + " " + what + ".");
}

Safetensors::Safetensors(const std::string& path) : path_(path), file_(path, InputFile::Links::kFollowed) {
  if (!file_.is_open()) refuse("cannot be opened: " + std::string(strerror(errno)));
  uint64_t bytes = 0;
  if (!file_.find_size(&bytes)) refuse("cannot be read");
  read_header(bytes);
}

void Safetensors::read_bytes(uint64_t begin, void* to, uint64_t bytes) const {
  const int64_t count = file_.read(begin, to, bytes);
  if (count < 0) refuse("cannot be read");
  if (static_cast<uint64_t>(count) != bytes) refuse("is cut short");
}

void Safetensors::read_header(uint64_t file_bytes) {
  uint64_t header_bytes = 0;
  unsigned char prefix[8];
  if (file_bytes < sizeof(prefix)) refuse("is cut short");
  read_bytes(0, prefix, sizeof(prefix));
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | prefix[i];
  if (header_bytes > kMostHeaderBytes || header_bytes > file_bytes - sizeof(prefix))
    refuse("is no program, or cut short");
  std::string text(header_bytes, '\0');
  read_bytes(sizeof(prefix), text.data(), header_bytes);
  const Json header = Json::parse(text);
  if (header.kind() != Json::Kind::kObject) refuse("is no program: its header is no object");
  const uint64_t data = sizeof(prefix) + header_bytes;
  for (const auto& [name, json] : header.members()) {
    if (name != "__metadata__") {
      add_entry(name, json, data, file_bytes - data);
      continue;
    }
    for (const auto& [key, value] : json.members()) metadata_[key] = value.text();
  }
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
}

void Safetensors::add_entry(const std::string& name, const Json& json, uint64_t data, uint64_t data_bytes) {
  const Json *dtype = json.find("dtype"), *shape = json.find("shape"), *offsets = json.find("data_offsets");
  Entry entry = {name, {}, 0, 0};
  if (!dtype || !shape || !offsets || !read_dtype(dtype->text(), &entry.spec.dtype))
    refuse("is damaged: array " + name + " lacks dtype, shape or place, or has an unknown one");
  for (const Json& dim : shape->list()) {
    if (dim.kind() != Json::Kind::kInteger || dim.integer() < 0) refuse("is damaged: the shape of " + name);
    entry.spec.shape.push(static_cast<size_t>(dim.integer()));
  }
  entry.spec.shape.check();
  const auto& places = offsets->list();
  if (places.size() != 2 || places[0].kind() != Json::Kind::kInteger ||
      places[1].kind() != Json::Kind::kInteger)
    refuse("is damaged: the place of " + name);
  const int64_t begin = places[0].integer(), end = places[1].integer();
  if (begin < 0 || end < begin || static_cast<uint64_t>(end) > data_bytes)
    refuse("is cut short at array " + name);
  entry.begin = data + static_cast<uint64_t>(begin);
  entry.bytes = static_cast<uint64_t>(end - begin);
  if (entry.bytes != entry.spec.bytes()) refuse("is damaged: the size of " + name);
  entries_.push_back(std::move(entry));
}

const Safetensors::Entry* Safetensors::find(const std::string& name) const {
  const auto place =
      std::lower_bound(entries_.begin(), entries_.end(), name,
                       [](const Entry& entry, const std::string& wanted) { return entry.name < wanted; });
  return place == entries_.end() || place->name != name ? nullptr : &*place;
}

const std::string& Safetensors::metadata(const std::string& name) const {
  static const std::string kNone;
  const auto found = metadata_.find(name);
  return found == metadata_.end() ? kNone : found->second;
}

void Safetensors::read(const Entry& entry, void* to) const { read_bytes(entry.begin, to, entry.bytes); }

std::shared_ptr<unsigned char> Safetensors::map(const Entry& entry) const {
  if (entry.begin % size_of(entry.spec.dtype) != 0) return nullptr;
  return file_.map(entry.begin, entry.bytes);
}

}  // namespace ferrule::executor
