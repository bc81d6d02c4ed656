// Runs every kernel of the table that this CPU can run over random cases, each against the scalar one.
//
//   ferrule_tests [--cases N] [--only TEXT] [--isa ISA] [--seed S]
//
// `--seed` runs the one case that a failure named. The scalar kernels are run as well, against themselves:
// that proves nothing of their values (the Python tests hold them to numpy and torch) but shows stray writes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <set>
#include <string>

#include "ferrule/dispatch.h"
#include "kernels/declarations.h"
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
const Part kParts[] = {{"threads", threads_pass}, {"arena", arena_passes}};

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
  long long seed = -1;
};

Options read_options(int count, char** words) {
  Options options;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = words[i];
    if (name == "--cases")
      options.cases = atol(words[i + 1]);
    else if (name == "--only")
      options.only = words[i + 1];
    else if (name == "--isa")
      options.isa = words[i + 1];
    else if (name == "--seed")
      options.seed = atoll(words[i + 1]);
    else
      fprintf(stderr, "unknown option %s\n", words[i]), exit(2);
  }
  return options;
}

bool run_row(const Row& row, const Options& options) {
  if (options.seed >= 0) {
    Rig rig(row.op, row.isa, static_cast<uint64_t>(options.seed));
    row.test(rig);
    return !rig.failed();
  }
  for (long i = 0; i < options.cases; ++i) {
    Rig rig(row.op, row.isa, static_cast<uint64_t>(i));
    row.test(rig);
    if (rig.failed()) return false;
  }
  return true;
}

int run_all(const Options& options) {
  int passed = 0, failed = 0, skipped = 0;
  for (const Part& part : kParts) {
    if (!options.isa.empty() || std::string(part.name).find(options.only) == std::string::npos) continue;
    const bool ok = part.passes();
    if (!ok) printf("FAILED %s\n", part.name);
    ++(ok ? passed : failed);
  }
  std::set<std::string> absent;
  for (const Row& row : kRows) {
    if (std::string(row.op).find(options.only) == std::string::npos) continue;
    if (!options.isa.empty() && options.isa != row.isa) continue;
    if (ferrule_check_isa(row.isa) != FERRULE_ISA_USABLE) {
      absent.insert(row.isa);
      ++skipped;
      continue;
    }
    const bool ok = run_row(row, options);
    printf("%s %-18s %-8s %ld cases\n", ok ? "ok    " : "FAILED", row.op, row.isa,
           options.seed >= 0 ? 1 : options.cases);
    fflush(stdout);
    ++(ok ? passed : failed);
  }
  for (const std::string& isa : absent)
    printf("not run: kernels for %s, which this CPU lacks\n", isa.c_str());
  printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed != 0 || passed == 0;
}

}  // namespace ferrule::tests

int main(int count, char** words) {
  return ferrule::tests::run_all(ferrule::tests::read_options(count, words));
}
