/* An app that runs a bundle of target native: verifies its files, tells what it takes, and holds it to its
 * proof.
 *
 *   cmake -S . -B build-app -DFERRULE_PYTHON=OFF -DFERRULE_TESTS=ON
 *   cmake --build build-app --target ferrule_bundle && build-app/ferrule_bundle out/minilm 2 20
 *
 * ferrule_bundle BUNDLE [THREADS [RUNS]]: exit code 0 where the outputs for all inputs of the proof are as
 * near to the model's answers as the recipe asks.
 */
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "ferrule/bundle.h"
#include "ferrule/dispatch.h"

namespace {

using Arrays = std::vector<ferrule_array>;

const char* const kDtypes[] = {"float32", "int64", "int32", "bool", "int8", "uint8"};

int fail(const ferrule_error& error) {
  std::fprintf(stderr, "%s %s\n", error.code, error.text);
  return 1;
}

void print_input(const ferrule_program* program, size_t entry, size_t input) {
  ferrule_description told;
  if (!ferrule_describe_input(program, entry, input, &told, nullptr)) return;
  std::printf("  %s: %s [", ferrule_input_name(program, entry, input), kDtypes[told.dtype]);
  for (size_t axis = 0; axis < told.rank; ++axis) {
    const ferrule_axis& a = told.axes[axis];
    std::printf(axis ? ", " : "");
    if (a.dim) std::printf("%s = ", a.dim);
    std::printf(a.min == a.max ? "%zu" : "%zu to %zu", a.min, a.max);
  }
  std::printf("]\n");
}

void print_entries(const ferrule_program* program) {
  for (size_t entry = 0; entry < ferrule_entry_count(program); ++entry) {
    std::printf("%s\n", ferrule_entry_name(program, entry));
    for (size_t i = 0; i < ferrule_input_count(program, entry); ++i) print_input(program, entry, i);
    for (size_t i = 0; i < ferrule_output_count(program, entry); ++i)
      std::printf("  -> %s\n", ferrule_output_name(program, entry, i));
  }
}

double value_at(const ferrule_array& array, size_t index) {
  switch (array.dtype) {
    case FERRULE_FLOAT32:
      return static_cast<const float*>(array.data)[index];
    case FERRULE_INT64:
      return static_cast<double>(static_cast<const int64_t*>(array.data)[index]);
    case FERRULE_INT32:
      return static_cast<const int32_t*>(array.data)[index];
    case FERRULE_INT8:
      return static_cast<const int8_t*>(array.data)[index];
    default:
      return static_cast<const uint8_t*>(array.data)[index];
  }
}

/* -1 where the shapes differ, or a value is no number. */
double cosine(const ferrule_array& a, const ferrule_array& b) {
  if (a.rank != b.rank || !std::equal(a.dims, a.dims + a.rank, b.dims)) return -1;
  size_t count = 1;
  for (size_t axis = 0; axis < a.rank; ++axis) count *= a.dims[axis];
  double both = 0, of_a = 0, of_b = 0, distance = 0;
  for (size_t i = 0; i < count; ++i) {
    const double x = value_at(a, i), y = value_at(b, i);
    both += x * y, of_a += x * x, of_b += y * y, distance += (x - y) * (x - y);
  }
  if (distance == 0) return 1;
  const double found = both / std::sqrt(of_a * of_b);
  return std::isfinite(found) ? found : -1;
}

/* The lowest cosine over all rows and outputs; times: of `runs` further runs of each row, in milliseconds.
 * False with `error`. */
bool prove(ferrule_bundle* bundle, size_t runs, double* lowest, std::vector<double>* times,
           ferrule_error* error) {
  ferrule_program* program = ferrule_bundle_program(bundle);
  const size_t entry = ferrule_bundle_proof_entry(bundle);
  Arrays inputs(ferrule_input_count(program, entry));
  Arrays answers(ferrule_output_count(program, entry)), outputs(answers.size());
  const auto run = [&] {
    return ferrule_run(program, entry, inputs.data(), inputs.size(), outputs.data(), outputs.size(), error);
  };
  *lowest = 1;
  for (size_t row = 0; row < ferrule_bundle_proof_count(bundle); ++row) {
    if (!ferrule_bundle_proof(bundle, row, inputs.data(), inputs.size(), answers.data(), answers.size(),
                              error))
      return false;
    if (!run()) return false;
    for (size_t i = 0; i < answers.size(); ++i) *lowest = std::min(*lowest, cosine(answers[i], outputs[i]));
  }
  for (size_t i = 0; i < runs; ++i) { /* of the last row, whose inputs still stand */
    const auto start = std::chrono::steady_clock::now();
    if (!run()) return false;
    times->push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  return true;
}

}  // namespace

int main(int count, char** words) {
  if (count < 2) return std::fprintf(stderr, "ferrule_bundle BUNDLE [THREADS [RUNS]]\n"), 2;
  const size_t threads = count > 2 ? std::strtoul(words[2], nullptr, 10) : 1;
  const size_t runs = count > 3 ? std::strtoul(words[3], nullptr, 10) : 20;

  ferrule_error error = {};
  const std::unique_ptr<ferrule_bundle, void (*)(ferrule_bundle*)> bundle(
      ferrule_bundle_open(words[1], threads, &error), ferrule_bundle_close);
  if (!bundle) return fail(error);
  print_entries(ferrule_bundle_program(bundle.get()));

  double lowest = 0;
  std::vector<double> times;
  if (!prove(bundle.get(), runs, &lowest, &times, &error)) return fail(error);
  const double bound = ferrule_bundle_min_cosine(bundle.get());
  const char* isa = "";
  ferrule_active_isa(&isa);
  std::printf("%zu rows of proof on %s: cosine %.6f, %.6f is needed\n",
              ferrule_bundle_proof_count(bundle.get()), isa, lowest, bound);
  if (!times.empty()) {
    std::sort(times.begin(), times.end());
    std::printf("median of %zu runs of the last: %.3f ms\n", times.size(), times[times.size() / 2]);
  }
  return lowest >= bound ? 0 : 1;
}
