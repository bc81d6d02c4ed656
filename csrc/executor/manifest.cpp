#include "executor/manifest.h"

#include <stdio.h>

#include <algorithm>

#include "executor/json.h"
#include "executor/sha256.h"
#include "executor/value.h"

namespace ferrule::executor {

namespace {

constexpr int64_t kSchema = 1;

void append_unit(std::string& to, uint32_t unit) {
  char escape[8];
  snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(unit & 0xFFFF));
  to += escape;
}

// The character that begins at text[*at], which is UTF-8; moves on to the next.
uint32_t next_character(const std::string& text, size_t* at) {
  const auto lead = static_cast<unsigned char>(text[(*at)++]);
  const int rest = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  uint32_t code = rest ? lead & (0x3F >> rest) : lead;
  for (int i = 0; i < rest; ++i) code = code << 6 | (static_cast<unsigned char>(text[(*at)++]) & 0x3F);
  return code;
}

void append_text(std::string& to, const std::string& text) {
  to += '"';
  for (size_t at = 0; at < text.size();) {
    const uint32_t code = next_character(text, &at);
    static const std::string kShort = "\"\\\b\f\n\r\t", kNames = "\"\\bfnrt";
    const size_t place = code < 0x80 ? kShort.find(static_cast<char>(code)) : std::string::npos;
    if (place != std::string::npos) {
      to += '\\';
      to += kNames[place];
    } else if (code >= ' ' && code <= '~') {
      to += static_cast<char>(code);
    } else if (code < 0x10000) {
      append_unit(to, code);
    } else {
      append_unit(to, 0xD800 + ((code - 0x10000) >> 10));
      append_unit(to, 0xDC00 + ((code - 0x10000) & 0x3FF));
    }
  }
  to += '"';
}

void append_json(std::string& to, const Json& json);

// Members by name, but for the one that is called `without`.
void append_object(std::string& to, const Json& json, const char* without) {
  std::vector<const std::pair<std::string, Json>*> members;
  for (const auto& member : json.members()) {
    if (member.first != without) members.push_back(&member);
  }
  std::sort(members.begin(), members.end(), [](auto* a, auto* b) { return a->first < b->first; });
  to += '{';
  for (size_t i = 0; i < members.size(); ++i) {
    if (i) to += ", ";
    append_text(to, members[i]->first);
    to += ": ";
    append_json(to, members[i]->second);
  }
  to += '}';
}

// As Python's json.dumps(..., sort_keys=True) writes what it wrote before: the text that the digest is of.
void append_json(std::string& to, const Json& json) {
  switch (json.kind()) {
    case Json::Kind::kNull:
      to += "null";
      break;
    case Json::Kind::kBool:
      to += json.boolean() ? "true" : "false";
      break;
    case Json::Kind::kInteger:
    case Json::Kind::kNumber:
      to += json.text();
      break;
    case Json::Kind::kText:
      append_text(to, json.text());
      break;
    case Json::Kind::kList:
      to += '[';
      for (size_t i = 0; i < json.list().size(); ++i) {
        if (i) to += ", ";
        append_json(to, json.list()[i]);
      }
      to += ']';
      break;
    case Json::Kind::kObject:
      append_object(to, json, "");
  }
}

std::string digest_of(const Json& manifest) {
  std::string text;
  append_object(text, manifest, "digest");
  Sha256 sum;
  sum.add(text.data(), text.size());
  return sum.finish();
}

// Whether a name is a relative path that never steps up.
bool is_inside(const std::string& name) {
  if (name.empty() || name[0] == '/' || name.find('\\') != std::string::npos) return false;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    if (name.compare(begin, end - begin, "..") == 0) return false;
    begin = end + 1;
  }
  return true;
}

class ManifestReader {
 public:
  ManifestReader(const Json& json, const std::string& name) : json_(json), name_(name) {}

  Manifest read() const {
    const Json* schema = json_.find("schema");
    if (!schema || schema->kind() != Json::Kind::kInteger || schema->integer() != kSchema)
      refuse("is of another schema; this version of Ferrule reads schema " + std::to_string(kSchema));
    if (member(json_, "digest", Json::Kind::kText).text() != digest_of(json_))
      refuse("was changed: its digest does not fit its content");
    const std::string& target = member(json_, "target", Json::Kind::kText).text();
    if (target != "native")
      throw Error("FER-NAT-010", name_ + " is of a bundle for target " + target + "; native is needed.");
    Manifest manifest;
    const Json& program = member(json_, "program", Json::Kind::kObject);
    manifest.main = "program/" + member(program, "main", Json::Kind::kText).text();
    const Json* bound = member(json_, "recipe", Json::Kind::kObject).find("min_cosine");
    if (!bound || (bound->kind() != Json::Kind::kNumber && bound->kind() != Json::Kind::kInteger))
      refuse("lacks the recipe's `min_cosine`");
    manifest.min_cosine = bound->number();
    read_files(&manifest);
    return manifest;
  }

 private:
  void read_files(Manifest* manifest) const {
    const Json& files = member(json_, "files", Json::Kind::kObject);
    if (files.members().size() > kMostFiles) refuse("names too many files");
    for (const auto& [name, row] : files.members()) {
      if (!is_inside(name))
        throw Error("FER-NAT-012", name_ + " names a file outside the bundle: " + name + ".");
      manifest->files[name] = member(row, "sha256", Json::Kind::kText).text();
    }
    for (const std::string& needed : {manifest->main, std::string("proof.safetensors")}) {
      if (!manifest->files.count(needed)) refuse("does not name " + needed + " among its files");
    }
  }

  const Json& member(const Json& json, const char* name, Json::Kind kind) const {
    const Json* found = json.find(name);
    if (!found || found->kind() != kind)
      refuse("lacks `" + std::string(name) + "`, or it is of another type");
    return *found;
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw Error("FER-NAT-009", name_ + " " + what + ".");
  }

  const Json& json_;
  const std::string& name_;
};

Json parse(const std::string& text, const std::string& name) {
  try {
    return Json::parse(text);
  } catch (const Error& problem) {
    throw Error("FER-NAT-009", name + " cannot be read: " + problem.what());
  }
}

}  // namespace

Manifest read_manifest(const std::string& text, const std::string& name) {
  const Json json = parse(text, name);
  return ManifestReader(json, name).read();
}

}  // namespace ferrule::executor
