#include <string.h>

#include <memory>

#include "executor/bundle.h"
#include "executor/c_api.h"
#include "executor/proof.h"
#include "ferrule/bundle.h"

using ferrule::executor::Array;
using ferrule::executor::Entry;
using ferrule::executor::Error;
using ferrule::executor::guard;
using ferrule::executor::Manifest;
using ferrule::executor::Program;
using ferrule::executor::Proof;
using ferrule::executor::verify_bundle;

struct ferrule_bundle {
  ferrule_bundle(const std::string& folder, size_t threads)
      : manifest(verify_bundle(folder)),
        proof(folder + "/proof.safetensors"),
        program{Program(folder + "/" + manifest.main, threads)} {
    entry = ferrule_entry_count(&program) == 1 ? 0 : ferrule_find_entry(&program, "forward");
  }

  Manifest manifest;
  Proof proof;
  ferrule_program program;
  size_t entry;                                      // that the proof is for
  std::vector<std::shared_ptr<unsigned char>> held;  // the arrays of the last row that was asked for
};

ferrule_bundle* ferrule_bundle_open(const char* folder, size_t threads, ferrule_error* error) {
  ferrule_bundle* bundle = nullptr;
  guard(error, [&] { bundle = new ferrule_bundle(folder, threads); });
  return bundle;
}

void ferrule_bundle_close(ferrule_bundle* bundle) { delete bundle; }

ferrule_program* ferrule_bundle_program(ferrule_bundle* bundle) { return &bundle->program; }

double ferrule_bundle_min_cosine(const ferrule_bundle* bundle) { return bundle->manifest.min_cosine; }

size_t ferrule_bundle_proof_count(const ferrule_bundle* bundle) { return bundle->proof.count(); }

size_t ferrule_bundle_proof_entry(const ferrule_bundle* bundle) { return bundle->entry; }

int ferrule_bundle_proof(ferrule_bundle* bundle, size_t row, ferrule_array* inputs, size_t input_count,
                         ferrule_array* answers, size_t answer_count, ferrule_error* error) {
  return guard(error, [&] {
    const auto& entries = bundle->program.program.graph().entries;
    if (row >= bundle->proof.count() || bundle->entry >= entries.size())
      throw Error("FER-NAT-004", "The proof has no such row, or the program has no entry point for it.");
    const Entry& entry = entries[bundle->entry];
    if (input_count != entry.inputs.size() || answer_count != entry.outputs.size())
      throw Error("FER-NAT-004", "There must be room for as many arrays as the entry point has.");
    std::vector<std::shared_ptr<unsigned char>> held;
    const std::vector<Array> given = bundle->proof.read(row, "input", entry.inputs, &held);
    const std::vector<Array> answer = bundle->proof.read(row, "reference", entry.outputs, &held);
    for (size_t i = 0; i < input_count; ++i) ferrule::executor::write_array(given[i], &inputs[i]);
    for (size_t i = 0; i < answer_count; ++i) ferrule::executor::write_array(answer[i], &answers[i]);
    bundle->held = std::move(held);
  });
}
