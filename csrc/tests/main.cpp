// Runs every kernel of the table that this CPU can run over random cases, each against the scalar one.
//
//   ferrule_tests [--cases N] [--only TEXT] [--isa ISA] [--seed S] [--share I/N] [--active ISA] [--thin 1]
//   ferrule_tests [--cases N] [--only TEXT] [--isa ISA] [--seed S] [--share I/N] [--active ISA]
//   ferrule_tests --bundle FOLDER     # writes a small bundle, for the example
//
// `--seed` runs the one case that a failure named, `--share 2/4` every fourth test from the second on (one
// process each), `--cases 0` no kernel, only the rest. `--active` says which instruction set must be in use:
// so that a run for an older CPU is known to have fallen back. `--thin 1` sets every other row and column of
// the products of codes to 0: all of SME's smopa that QEMU 7.2 computes right, since it writes even rows only
// and the products of odd rows to their odd columns. The scalar kernels are run as well, against themselves
// and on a tenth of the cases: that proves nothing of their values (the Python tests hold them to numpy and
// torch) but shows stray writes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <set>
#include <string>

#include "ferrule/dispatch.h"
#include "kernels/declarations.h"
#include "tests/files.h"
#include "tests/rig.h"

namespace ferrule::tests {

// Draws a case from rig.random, runs `kernel` and the scalar kernel, and compares.
#define FERRULE_KERNEL(op, isa, function) void test_##op(Rig& rig, ferrule_##op##_fn* kernel);
#include "kernels/table.inc"
#undef FERRULE_KERNEL

// Tests of what is no kernel (threads, arena, status, refused arguments); each file in tests/ states one.
struct Part {
  const char* name;
  bool (*passes)();
};
bool threads_pass();
bool arena_passes();
bool attention_op_passes();
bool attention_i8_op_passes();
bool activate_op_passes();
bool conv_depthwise_i8_op_passes();
bool conv_op_passes();
bool conv_depthwise_op_passes();
bool bundle_passes();
bool checksum_passes();
bool embedding_op_passes();
bool executor_cache_passes();
bool executor_tensors_pass();
bool executor_files_pass();
bool executor_kernels_pass();
bool executor_memory_passes();
bool executor_decoder_pass();
bool hadamard_op_passes();
bool layer_norm_op_passes();
bool linear_op_passes();
bool mean_tokens_op_passes();
bool pooling_op_passes();
bool quantize_rows_op_passes();
bool rational_op_passes();
bool rms_norm_op_passes();
bool sha256_passes();
bool rope_op_passes();
bool selective_scan_op_passes();
bool softmax_op_passes();
bool streaming_passes();
bool token_ops_pass();
const Part kParts[] = {
    {"threads", threads_pass},
    {"arena", arena_passes},
    {"attention_op", attention_op_passes},
    {"attention_i8_op", attention_i8_op_passes},
    {"activate_op", activate_op_passes},
    {"conv_op", conv_op_passes},
    {"conv_depthwise_i8_op", conv_depthwise_i8_op_passes},
    {"conv_depthwise_op", conv_depthwise_op_passes},
    {"bundle", bundle_passes},
    {"checksum", checksum_passes},
    {"embedding_op", embedding_op_passes},
    {"executor_tensors", executor_tensors_pass},
    {"executor_files", executor_files_pass},
    {"executor_cache", executor_cache_passes},
    {"executor_kernels", executor_kernels_pass},
    {"executor_memory", executor_memory_passes},
    {"executor_decoder", executor_decoder_pass},
    {"hadamard_op", hadamard_op_passes},
    {"layer_norm_op", layer_norm_op_passes},
    {"linear_op", linear_op_passes},
    {"mean_tokens_op", mean_tokens_op_passes},
    {"pooling_op", pooling_op_passes},
    {"quantize_rows_op", quantize_rows_op_passes},
    {"rational_op", rational_op_passes},
    {"rms_norm_op", rms_norm_op_passes},
    {"rope_op", rope_op_passes},
    {"selective_scan_op", selective_scan_op_passes},
    {"sha256", sha256_passes},
    {"softmax_op", softmax_op_passes},
    {"streaming", streaming_passes},
    {"token_ops", token_ops_pass},
};

struct Row {
  const char* op;
  const char* isa;
  void (*test)(Rig& rig);
};

const Row kRows[] = {
#define FERRULE_KERNEL(op, isa, function) {#op, #isa, [](Rig& rig) { test_##op(rig, function); }},
#include "kernels/table.inc"
#undef FERRULE_KERNEL
};

struct Options {
  long cases = 10000;
  std::string only;
  std::string isa;
  std::string active;
  long long seed = -1;
  bool thin = false;
  size_t share = 0, shares = 1;
};

// Reads "I/N", I of 1 to N.
bool read_share(const char* text, Options* options) {
  char* rest = nullptr;
  const long share = strtol(text, &rest, 10);
  const long shares = *rest == '/' ? strtol(rest + 1, &rest, 10) : 0;
  if (*rest || share < 1 || shares < share) return false;
  options->share = static_cast<size_t>(share - 1);
  options->shares = static_cast<size_t>(shares);
  return true;
}

Options read_options(int count, char** words) {
  Options options;
  for (int i = 1; i < count; i += 2) {
    const std::string name = words[i];
    const char* value = i + 1 < count ? words[i + 1] : "";
    if (name == "--cases")
      options.cases = atol(value);
    else if (name == "--only")
      options.only = value;
    else if (name == "--isa")
      options.isa = value;
    else if (name == "--active")
      options.active = value;
    else if (name == "--seed")
      options.seed = atoll(value);
    else if (name == "--thin")
      options.thin = atol(value) != 0;
    else if (name != "--share" || !read_share(value, &options))
      fprintf(stderr, "not understood: %s %s\n", words[i], value), exit(2);
  }
  return options;
}

// Cases of a row: scalar kernels, which are run against themselves, get a tenth.
long count_cases(const Row& row, const Options& options) {
  if (options.seed >= 0) return 1;
  return strcmp(row.isa, "scalar") == 0 ? (options.cases + 9) / 10 : options.cases;
}

bool run_row(const Row& row, long cases, const Options& options) {
  for (long i = 0; i < cases; ++i) {
    Rig rig(row.op, row.isa, static_cast<uint64_t>(options.seed >= 0 ? options.seed : i), options.thin);
    row.test(rig);
    if (rig.failed()) return false;
  }
  return true;
}

struct Tally {
  size_t seen = 0;  // tests chosen by --only and --isa, in all shares together
  int passed = 0, failed = 0, skipped = 0;
  bool in_share(const Options& options) { return seen++ % options.shares == options.share; }
};

void run_parts(const Options& options, Tally* tally) {
  for (const Part& part : kParts) {
    if (!options.isa.empty() || std::string(part.name).find(options.only) == std::string::npos) continue;
    if (!tally->in_share(options)) continue;
    const bool ok = part.passes();
    printf("%s %s\n", ok ? "ok    " : "FAILED", part.name);
    fflush(stdout);
    ++(ok ? tally->passed : tally->failed);
  }
}

void run_rows(const Options& options, Tally* tally) {
  std::set<std::string> absent;
  for (const Row& row : kRows) {
    if (std::string(row.op).find(options.only) == std::string::npos) continue;
    if (!options.isa.empty() && options.isa != row.isa) continue;
    if (!tally->in_share(options)) continue;
    if (!is_tested(row.isa)) {
      absent.insert(row.isa);
      ++tally->skipped;
      continue;
    }
    const long cases = count_cases(row, options);
    const bool ok = run_row(row, cases, options);
    printf("%s %-18s %-8s %ld cases\n", ok ? "ok    " : "FAILED", row.op, row.isa, cases);
    fflush(stdout);
    ++(ok ? tally->passed : tally->failed);
  }
  for (const std::string& isa : absent)
    printf("not run: kernels for %s, which this CPU lacks or FERRULE_ISA must name\n", isa.c_str());
}

int run_all(const Options& options) {
  const char* isa = nullptr;
  ferrule_active_isa(&isa);
  if (!options.active.empty() && options.active != isa) {
    printf("FAILED: %s is in use, not %s\n", isa, options.active.c_str());
    return 1;
  }
  Tally tally;
  run_parts(options, &tally);
  if (options.cases > 0 || options.seed >= 0) run_rows(options, &tally);
  if (options.shares == 1)
    printf("%d passed, %d failed, %d skipped\n", tally.passed, tally.failed, tally.skipped);
  return tally.failed != 0 || tally.seen == 0;
}

}  // namespace ferrule::tests

int main(int count, char** words) {
  if (count == 3 && strcmp(words[1], "--bundle") == 0) return ferrule::tests::write_bundle(words[2]), 0;
  return ferrule::tests::run_all(ferrule::tests::read_options(count, words));
}
