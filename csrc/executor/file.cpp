#include "executor/file.h"

#include <stdlib.h>

#include "ops/checksum.h"

namespace ferrule::executor {

namespace {

constexpr size_t kLeastMapped = 1 << 18;  // bytes: a mapping is whole pages, and takes a call of the system

// One code a byte.
Constant unpack(const Constant& packed, const Packing& packing, const Allocate& allocate) {
  Spec spec = {packing.dtype, packed.shape()};
  const size_t last = spec.shape.rank - 1;
  if (spec.shape[last] > SIZE_MAX / packing.per_byte)
    throw Error("FER-NAT-005", "The codes cannot be counted.");
  spec.shape[last] *= packing.per_byte;
  spec.shape.check();
  Constant codes = {spec, allocate(spec.bytes())};
  packing.unpack(packed.as<unsigned char>(), packed.spec.bytes(), codes.memory.get());
  return codes;
}

}  // namespace

ProgramFile::ProgramFile(const std::string& path) : file_(path) {
  if (file_.metadata("format") != "ferrule-program-2")
    file_.refuse("is no program of this version: its metadata lack `format` ferrule-program-2");
  for (const Safetensors::Entry& entry : file_.entries()) read_sum(entry);
}

ProgramFile::Sum ProgramFile::read_sum(const Safetensors::Entry& entry) const {
  constexpr size_t kDigits = 16;
  const std::string& text = file_.metadata(entry.name);
  char* rest = nullptr;
  Sum sum = {strtoull(text.c_str(), &rest, 16), nullptr};
  if (text.size() < kDigits || rest != text.c_str() + kDigits)
    file_.refuse("is damaged: the checksum of " + entry.name);
  if (text.size() == kDigits) return sum;
  if (text[kDigits] == ' ') sum.packing = find_packing(text.substr(kDigits + 1));
  if (!sum.packing || entry.spec.dtype != Dtype::kUint8 || entry.spec.shape.rank == 0)
    file_.refuse("is damaged: the codes of " + entry.name);
  return sum;
}

const Safetensors::Entry& ProgramFile::find(const std::string& name) const {
  const Safetensors::Entry* entry = file_.find(name);
  if (!entry) throw Error("FER-NAT-003", "The program has no array " + name + ".");
  return *entry;
}

void ProgramFile::verify(const Safetensors::Entry& entry, const Sum& sum, const void* bytes) const {
  if (ops::checksum(bytes, entry.bytes) != sum.checksum)
    file_.refuse("is damaged: the bytes of " + entry.name);
}

Constant ProgramFile::map(const std::string& name) const {
  const Safetensors::Entry& entry = find(name);
  const Sum sum = read_sum(entry);
  const bool is_worth = entry.bytes >= kLeastMapped && !sum.packing;
  const Constant found = {entry.spec, is_worth ? file_.map(entry) : nullptr};
  if (!found.memory) return read(name, allocate);
  verify(entry, sum, found.memory.get());
  return found;
}

Constant ProgramFile::read(const std::string& name, const Allocate& allocate) const {
  const Safetensors::Entry& entry = find(name);
  const Sum sum = read_sum(entry);
  const Constant found = {entry.spec, allocate(entry.bytes)};
  file_.read(entry, found.memory.get());
  verify(entry, sum, found.memory.get());
  return sum.packing ? unpack(found, *sum.packing, allocate) : found;
}

size_t ProgramFile::bytes() const {
  size_t total = 0;
  for (const Safetensors::Entry& entry : file_.entries()) total += entry.bytes;
  return total;
}

std::string ProgramFile::read_text(const std::string& name) const {
  const Constant bytes = read(name, allocate);
  return {bytes.as<char>(), bytes.spec.bytes()};
}

}  // namespace ferrule::executor
