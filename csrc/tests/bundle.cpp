// Bundles as an app opens them: sound ones, and ones that were damaged or made to deceive.
#include "ferrule/bundle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "executor/manifest.h"
#include "executor/sha256.h"
#include "executor/value.h"
#include "tests/files.h"

namespace ferrule::tests {

namespace {

namespace fs = std::filesystem;

// A folder with a sound bundle, which ends with it.
class TemporaryBundle {
 public:
  TemporaryBundle() {
    if (!mkdtemp(path_)) abort();
    write_bundle(path_);
  }
  ~TemporaryBundle() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string path(const char* name = "") const { return std::string(path_) + "/" + name; }

 private:
  char path_[32] = "/tmp/ferrule-test-XXXXXX";
};

// The code with which opening fails; "" where it opens.
std::string code_of(const TemporaryBundle& bundle) {
  ferrule_error error = {};
  ferrule_bundle* opened = ferrule_bundle_open(bundle.path().c_str(), 1, &error);
  ferrule_bundle_close(opened);
  if (!opened && !error.text[0]) return "no text";
  return opened ? "" : error.code;
}

bool refused_with(const TemporaryBundle& bundle, const std::string& code, const std::string& what) {
  const std::string found = code_of(bundle);
  if (found != code) fprintf(stderr, "%s: '%s', not '%s'\n", what.c_str(), found.c_str(), code.c_str());
  return found == code;
}

bool row_agrees(ferrule_bundle* bundle, size_t row) {
  ferrule_program* program = ferrule_bundle_program(bundle);
  ferrule_array input, answer, planned, output;
  if (!ferrule_bundle_proof(bundle, row, &input, 1, &answer, 1, nullptr)) return false;
  if (!ferrule_infer(program, 0, &input, 1, &planned, 1, nullptr) || planned.data) return false;
  if (!ferrule_run(program, 0, &input, 1, &output, 1, nullptr)) return false;
  for (const ferrule_array& other : {planned, answer}) {
    if (other.dtype != output.dtype || other.rank != 2 ||
        memcmp(other.dims, output.dims, sizeof(output.dims)) != 0)
      return false;
  }
  for (size_t i = 0; i < output.dims[0] * output.dims[1]; ++i) {
    if (!(fabsf(static_cast<float*>(output.data)[i] - static_cast<float*>(answer.data)[i]) < 1e-5f))
      return false;
  }
  return input.dims[0] == 2 * row + 1;
}

bool describes_its_input(const ferrule_program* program) {
  ferrule_description told;
  if (!ferrule_describe_input(program, 0, 0, &told, nullptr)) return false;
  const ferrule_axis &rows = told.axes[0], &depth = told.axes[1];
  ferrule_error error = {};
  return told.dtype == FERRULE_FLOAT32 && told.rank == 2 && rows.dim && strcmp(rows.dim, "rows") == 0 &&
         rows.min == 1 && rows.max == 16 && !depth.dim && depth.min == 8 && depth.max == 8 &&
         !ferrule_describe_input(program, 0, 1, &told, &error) && strcmp(error.code, "FER-NAT-004") == 0 &&
         !ferrule_describe_input(program, 1, 0, &told, nullptr);
}

bool runs_its_proof() {
  const TemporaryBundle files;
  ferrule_error error = {};
  ferrule_bundle* bundle = ferrule_bundle_open(files.path().c_str(), 2, &error);
  if (!bundle) return fprintf(stderr, "%s %s\n", error.code, error.text), false;
  const ferrule_program* program = ferrule_bundle_program(bundle);
  bool passed = ferrule_bundle_proof_count(bundle) == 3 && ferrule_bundle_min_cosine(bundle) == 0.9999 &&
                ferrule_bundle_proof_entry(bundle) == 0 && ferrule_find_entry(program, "forward") == 0 &&
                ferrule_find_entry(program, "backward") == ferrule_entry_count(program) &&
                describes_its_input(program);
  for (size_t row = 0; row < 3; ++row) passed = passed && row_agrees(bundle, row);
  ferrule_array input, answer;
  passed = passed && !ferrule_bundle_proof(bundle, 3, &input, 1, &answer, 1, &error) &&
           strcmp(error.code, "FER-NAT-004") == 0 &&
           !ferrule_bundle_proof(bundle, 0, &input, 0, &answer, 1, nullptr);
  ferrule_bundle_close(bundle);
  return passed;
}

// A proof whose names are not the program's opens, and is refused where it is read.
bool reads_no_foreign_proof() {
  const TemporaryBundle files;
  write_file(files.path("proof.safetensors"), safetensors_bytes({{"0000/input/z", "F32", "0", ""}}, ""));
  write_manifest(files.path(), kBundleFiles, kBundleFacts);
  ferrule_error error = {};
  ferrule_bundle* bundle = ferrule_bundle_open(files.path().c_str(), 1, &error);
  if (!bundle) return false;
  ferrule_array input, answer;
  const bool refused = !ferrule_bundle_proof(bundle, 0, &input, 1, &answer, 1, &error);
  ferrule_bundle_close(bundle);
  return refused && strcmp(error.code, "FER-NAT-001") == 0;
}

struct Damage {
  const char* what;
  const char* code;
  std::function<void(const TemporaryBundle&)> make;
};

void flip_byte(const std::string& path, size_t at) {
  std::string bytes = read_file(path);
  bytes[at % bytes.size()] ^= 1;
  write_file(path, bytes);
}

void tell_facts(const TemporaryBundle& files, const char* facts) {
  write_manifest(files.path(), kBundleFiles, facts);
}

void name_file(const TemporaryBundle& files, const char* name) {
  std::vector<std::string> names = kBundleFiles;
  names.emplace_back(name);
  write_manifest(files.path(), names, kBundleFacts);
}

const Damage kDamages[] = {
    {"a byte of the program", "FER-NAT-011",
     [](auto& b) { flip_byte(b.path("program/model.safetensors"), 900); }},
    {"a byte of the proof", "FER-NAT-011", [](auto& b) { flip_byte(b.path("proof.safetensors"), 0); }},
    {"a program cut short", "FER-NAT-011",
     [](auto& b) { fs::resize_file(b.path("program/model.safetensors"), 100); }},
    {"a missing file", "FER-NAT-011", [](auto& b) { fs::remove(b.path("delegation.json")); }},
    {"a missing program", "FER-NAT-011", [](auto& b) { fs::remove_all(b.path("program")); }},
    {"a file too many", "FER-NAT-011", [](auto& b) { write_file(b.path("program/more.bin"), "x"); }},
    {"a link to a file", "FER-NAT-011",
     [](auto& b) {
       fs::rename(b.path("delegation.json"), b.path("kept"));
       fs::create_symlink("kept", b.path("delegation.json"));
     }},
    {"a link to a folder", "FER-NAT-011",
     [](auto& b) {
       fs::rename(b.path("program"), b.path("kept"));
       fs::create_directory_symlink("kept", b.path("program"));
     }},
    {"a link that leads nowhere", "FER-NAT-011",
     [](auto& b) { fs::create_symlink("nowhere", b.path("more")); }},
    {"a pipe", "FER-NAT-011",
     [](auto& b) {
       fs::remove(b.path("delegation.json"));
       if (mkfifo(b.path("delegation.json").c_str(), 0600)) abort();
     }},
    {"a folder for a file", "FER-NAT-011",
     [](auto& b) {
       fs::remove(b.path("delegation.json"));
       fs::create_directory(b.path("delegation.json"));
     }},
    {"folders without end", "FER-NAT-011",
     [](auto& b) {
       std::string path = b.path();
       for (int i = 0; i < 40; ++i) path += "/d";
       fs::create_directories(path);
     }},
    {"a path above", "FER-NAT-012", [](auto& b) { name_file(b, "program/../../x"); }},
    {"two dots", "FER-NAT-012", [](auto& b) { name_file(b, ".."); }},
    {"an absolute path", "FER-NAT-012", [](auto& b) { name_file(b, "/etc/hostname"); }},
    {"a backslash", "FER-NAT-012", [](auto& b) { name_file(b, "..\\\\x"); }},
    {"a name of dots", "FER-NAT-011", [](auto& b) { name_file(b, "...x"); }},
    {"a path with a dot in it", "FER-NAT-011", [](auto& b) { name_file(b, "./delegation.json"); }},
    {"no manifest", "FER-NAT-009", [](auto& b) { fs::remove(b.path("manifest.json")); }},
    {"a folder for a manifest", "FER-NAT-009",
     [](auto& b) {
       fs::remove(b.path("manifest.json"));
       fs::create_directory(b.path("manifest.json"));
     }},
    {"a link to the manifest", "FER-NAT-009",
     [](auto& b) {
       fs::rename(b.path("manifest.json"), b.path("kept"));
       fs::create_symlink("kept", b.path("manifest.json"));
     }},
    {"another target", "FER-NAT-010",
     [](auto& b) {
       tell_facts(
           b, R"(, "program": {"main": "m"}, "recipe": {"min_cosine": 1}, "schema": 1, "target": "onnx"})");
     }},
    {"another schema", "FER-NAT-009",
     [](auto& b) {
       tell_facts(
           b, R"(, "program": {"main": "m"}, "recipe": {"min_cosine": 1}, "schema": 2, "target": "native"})");
     }},
    {"a schema in words", "FER-NAT-009",
     [](auto& b) {
       tell_facts(
           b,
           R"(, "program": {"main": "m"}, "recipe": {"min_cosine": 1}, "schema": "1", "target": "native"})");
     }},
    {"a program that is not listed", "FER-NAT-009",
     [](auto& b) {
       tell_facts(
           b, R"(, "program": {"main": "m"}, "recipe": {"min_cosine": 1}, "schema": 1, "target": "native"})");
     }},
    {"a bound in words", "FER-NAT-009",
     [](auto& b) {
       tell_facts(b,
                  R"(, "program": {"main": "model.safetensors"}, "recipe": {"min_cosine": "1"}, "schema": 1,)"
                  R"( "target": "native"})");
     }},
    {"no recipe", "FER-NAT-009",
     [](auto& b) {
       tell_facts(b, R"(, "program": {"main": "model.safetensors"}, "schema": 1, "target": "native"})");
     }},
    {"files in a list", "FER-NAT-009",
     [](auto& b) { write_file(b.path("manifest.json"), R"({"schema": 1, "files": []})"); }},
    {"a program that is none", "FER-NAT-001",
     [](auto& b) {
       write_file(b.path("program/model.safetensors"), "nothing");
       write_manifest(b.path(), kBundleFiles, kBundleFacts);
     }},
    {"a proof that is none", "FER-NAT-001",
     [](auto& b) {
       write_file(b.path("proof.safetensors"), "");
       write_manifest(b.path(), kBundleFiles, kBundleFacts);
     }},
};

bool refuses_damage() {
  bool passed = true;
  for (const Damage& damage : kDamages) {
    const TemporaryBundle files;
    damage.make(files);
    passed &= refused_with(files, damage.code, damage.what);
  }
  return passed;
}

// Every manifest that is cut short or has another bit.
bool refuses_other_manifests() {
  const TemporaryBundle files;
  const std::string path = files.path("manifest.json"), sound = read_file(path);
  if (code_of(files) != "") return false;
  for (size_t size = 0; size < sound.size(); ++size) {
    write_file(path, sound.substr(0, size));
    if (!refused_with(files, "FER-NAT-009", "cut to " + std::to_string(size))) return false;
    std::string flipped = sound;
    flipped[size] ^= static_cast<char>(1 << size % 8);
    write_file(path, flipped);
    if (!refused_with(files, "FER-NAT-009", "a bit of byte " + std::to_string(size))) return false;
  }
  return true;
}

bool refuses_texts() {
  const TemporaryBundle files;
  std::string names = "{";
  for (int i = 0; i < 200000; ++i) names += '"' + std::to_string(i) + "\":0,";
  const std::string texts[] = {"",
                               "null",
                               "[]",
                               "{}",
                               std::string(1000000, '['),
                               names + "\"schema\":1}",
                               names + "\"7\":0}",
                               std::string(5 << 20, ' ') + "{}",
                               std::string("{\"schema\": 1, \"digest\": \"\0\"}", 27),
                               "{\"schema\": 1, \"\xC3\x28\": 0}",
                               "{\"schema\": 1, \"schema\": 1}",
                               "{\"schema\": 99999999999999999999}",
                               "{\"schema\": 1e0}"};
  for (const std::string& text : texts) {
    write_file(files.path("manifest.json"), text);
    if (!refused_with(files, "FER-NAT-009", text.substr(0, 30))) return false;
  }
  return true;
}

// As sdk/bundle.py wrote it: the digest is of the text that Python's json makes.
bool reads_what_python_wrote() {
  const executor::Manifest manifest = executor::read_manifest(
      R"({ "digest": "ad52d4f57e0444ea4d0c186deca8ea8309286338b066ea6d07346b5073986e08", "files": { "program/model.safetensors": { "sha256": "1" }, "proof.safetensors": { "sha256": "0" } }, "notes": "é😀\u0001\"\\\n\t/", "program": { "main": "model.safetensors" }, "recipe": { "min_cosine": 0.99, "steps": [ 1e-05, -0.0, 1.5e+16, true, null, -7, [], {} ] }, "schema": 1, "target": "native" })",
      "manifest.json");
  return manifest.files.size() == 2 && manifest.min_cosine == 0.99 &&
         manifest.main == "program/model.safetensors";
}

}  // namespace

bool bundle_passes() {
  return runs_its_proof() && reads_no_foreign_proof() && reads_what_python_wrote() && refuses_damage() &&
         refuses_other_manifests() && refuses_texts();
}

}  // namespace ferrule::tests
