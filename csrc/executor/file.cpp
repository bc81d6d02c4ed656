#include "executor/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "ops/linear_packed.h"

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

constexpr Packing kPackings[] = {{" int4", 4, true}, {" uint4", 4, false}, {" uint2", 2, false}};

// One code a byte.
Constant unpack(const Constant& packed, const Packing& packing) {
  const size_t bytes = packed.spec.bytes(), each = 8 / packing.bits;
  Spec spec = {packing.is_signed ? Dtype::kInt8 : Dtype::kUint8, packed.shape()};
  const size_t last = spec.shape.rank - 1;
  if (spec.shape[last] > SIZE_MAX / each) throw Error("FER-NAT-005", "The codes cannot be counted.");
  spec.shape[last] *= each;
  spec.shape.check();
  Constant codes = {spec, allocate(spec.bytes())};
  const int sign = packing.is_signed ? 1 << (packing.bits - 1) : 0;
  const auto* from = packed.as<unsigned char>();
  unsigned char* to = codes.memory.get();
  for (size_t i = 0; i < bytes; ++i) {
    for (size_t place = 0; place < each; ++place) {
      const int code = from[i] >> (place * packing.bits) & ((1 << packing.bits) - 1);
      *to++ = static_cast<unsigned char>((code ^ sign) - sign);
    }
  }
  return codes;
}

}  // namespace

void ProgramFile::refuse(const std::string& what) const {
  throw Error("FER-NAT-001", path_ + " " + what + ".");
}

ProgramFile::ProgramFile(const std::string& path) : path_(path), file_(fopen(path.c_str(), "rb")) {
  if (!file_) refuse("cannot be opened: " + std::string(strerror(errno)));
  if (fseeko(file_.get(), 0, SEEK_END) != 0) refuse("cannot be read");
  const auto bytes = ftello(file_.get());
  if (bytes < 0) refuse("cannot be read");
  read_header(static_cast<uint64_t>(bytes));
}

void ProgramFile::read_bytes(uint64_t begin, void* to, uint64_t bytes) const {
  if (fseeko(file_.get(), static_cast<off_t>(begin), SEEK_SET) != 0 ||
      fread(to, 1, bytes, file_.get()) != bytes)
    refuse("is cut short");
}

void ProgramFile::read_header(uint64_t file_bytes) {
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
  const Json* metadata = header.find("__metadata__");
  const Json* format = metadata ? metadata->find("format") : nullptr;
  if (!format || format->text() != "ferrule-program-1")
    refuse("is no program of this version: its metadata lack `format` ferrule-program-1");
  const uint64_t data = sizeof(prefix) + header_bytes;
  for (const auto& [name, json] : header.members()) {
    if (name != "__metadata__") add_entry(name, json, metadata->find(name), data, file_bytes - data);
  }
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
}

void ProgramFile::add_entry(const std::string& name, const Json& json, const Json* sum, uint64_t data,
                            uint64_t data_bytes) {
  const Json *dtype = json.find("dtype"), *shape = json.find("shape"), *offsets = json.find("data_offsets");
  Entry entry = {name, {}, 0, 0, 0, nullptr};
  if (!dtype || !shape || !offsets || !sum || !read_dtype(dtype->text(), &entry.spec.dtype))
    refuse("is damaged: array " + name + " lacks dtype, shape, place or checksum, or has an unknown one");
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
  read_sum(sum->text(), &entry);
  entries_.push_back(std::move(entry));
}

void ProgramFile::read_sum(const std::string& text, Entry* entry) const {
  constexpr size_t kDigits = 16;
  char* rest = nullptr;
  entry->checksum = strtoull(text.c_str(), &rest, 16);
  if (text.size() < kDigits || rest != text.c_str() + kDigits)
    refuse("is damaged: the checksum of " + entry->name);
  if (text.size() == kDigits) return;
  for (const Packing& packing : kPackings) {
    if (text.substr(kDigits) == packing.name) entry->packing = &packing;
  }
  if (!entry->packing || entry->spec.dtype != Dtype::kUint8 || entry->spec.shape.rank == 0)
    refuse("is damaged: the codes of " + entry->name);
}

const ProgramFile::Entry& ProgramFile::find(const std::string& name) const {
  const auto place =
      std::lower_bound(entries_.begin(), entries_.end(), name,
                       [](const Entry& entry, const std::string& wanted) { return entry.name < wanted; });
  if (place == entries_.end() || place->name != name)
    throw Error("FER-NAT-003", "The program has no array " + name + ".");
  return *place;
}

Constant ProgramFile::read(const std::string& name) const {
  const Entry& entry = find(name);
  Constant found = {entry.spec, allocate(entry.bytes)};
  read_bytes(entry.begin, found.memory.get(), entry.bytes);
  if (ops::checksum(found.memory.get(), entry.bytes) != entry.checksum)
    refuse("is damaged: the bytes of " + name);
  return entry.packing ? unpack(found, *entry.packing) : found;
}

std::string ProgramFile::read_text(const std::string& name) const {
  const Constant bytes = read(name);
  return {bytes.as<char>(), bytes.spec.bytes()};
}

}  // namespace ferrule::executor
