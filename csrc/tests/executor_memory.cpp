// Memory of a program's arrays: what is lent, what is placed side by side, and tables that stay in their
// file.
#include "executor/memory.h"

#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <vector>

#include "executor/file.h"
#include "ferrule/arena.h"
#include "ferrule/program.h"
#include "tests/executor.h"
#include "tests/files.h"

namespace ferrule::tests {

namespace {

constexpr size_t kRows = 4096, kWidth = 24;  // of a table that is large enough to be mapped

bool check(bool passed, const char* what) {
  if (!passed) fprintf(stderr, "memory: %s\n", what);
  return passed;
}

bool is_aligned(const std::shared_ptr<unsigned char>& memory) {
  return reinterpret_cast<uintptr_t>(memory.get()) % FERRULE_ALIGNMENT == 0;
}

bool lends_again() {
  executor::Lender lender;
  auto first = lender.lend(1000), second = lender.lend(500);
  bool passed = check(is_aligned(first) && is_aligned(second) && first != second, "what is lent at a time");
  unsigned char* known = first.get();
  const std::weak_ptr<unsigned char> watched = first;
  auto copy = first;
  first.reset();
  passed = check(lender.lend(10).get() != known, "lent while a copy is held") && passed;
  copy.reset();
  passed = check(watched.expired(), "the end of the last copy is not seen") && passed;
  passed = check(lender.lend(900).get() == known, "not lent again") && passed;
  const auto large = lender.lend(1 << 20);
  memset(large.get(), 1, 1 << 20);
  memset(second.get(), 2, 500);
  return check(large.get()[0] == 1 && large.get()[(1 << 20) - 1] == 1, "what has grown") && passed;
}

bool places_beside() {
  executor::Region region(1 << 16);
  std::vector<std::shared_ptr<unsigned char>> taken;
  const size_t sizes[] = {1, 64, 65, 4000, 0, 60000, 3, 1 << 20};
  for (const size_t size : sizes) {
    taken.push_back(region.take(size));
    if (size) memset(taken.back().get(), static_cast<int>(taken.size()), size);
  }
  bool passed = check(taken[1].get() == taken[0].get() + FERRULE_ALIGNMENT, "not side by side");
  for (size_t i = 0; i < taken.size(); ++i) {
    const unsigned char* begin = taken[i].get();
    const auto holds = [&](unsigned char byte) { return byte == i + 1; };
    passed = check(is_aligned(taken[i]) && std::all_of(begin, begin + sizes[i], holds), "what was taken") &&
             passed;
  }
  return passed;
}

// The rows 0, 1, ... of the table are filled with its number and `more`.
std::string table_file(float more, const std::string& space) {
  std::vector<float> table;
  for (size_t i = 0; i < kRows * kWidth; ++i) table.push_back(static_cast<float>(i / kWidth) + more);
  const std::string graph =
      R"({"entries":[{"name":"forward","dims":[],"inputs":[{"name":"ids","dtype":"int64","shape":[2]}],"nodes":[)"
      R"({"op":"embedding","in":[0],"kind":"float32","weight":"table"}],"outputs":[{"name":"y","value":1}]}]})";
  return program_bytes(graph + space, {{"table", "F32", "4096,24", bytes_of(table)}});
}

bool gives(ferrule_program* program, float first, float last) {
  int64_t ids[2] = {0, kRows - 1};
  const ferrule_array input = {FERRULE_INT64, 1, {2}, ids};
  ferrule_array output;
  if (!program || !ferrule_run(program, 0, &input, 1, &output, 1, nullptr)) return false;
  const auto* values = static_cast<const float*>(output.data);
  return values[0] == first && values[2 * kWidth - 1] == last;
}

// A table at any place of the file; while the program is open, another file takes its name.
bool maps_tables() {
  const TemporaryFile file, other;
  bool passed = true;
  for (size_t spaces = 0; spaces < 8; ++spaces) {
    file.write(table_file(0.5f, std::string(spaces, ' ')));
    ferrule_program* program = ferrule_open(file.path(), 1, nullptr);
    other.write(table_file(7, ""));
    rename(other.path(), file.path());
    passed = check(gives(program, 0.5f, kRows - 0.5f), "the table of a file that was replaced") && passed;
    ferrule_close(program);
  }
  std::string damaged = table_file(0, "");
  damaged[damaged.size() - 5] ^= 1;
  file.write(damaged);
  ferrule_error error = {};
  passed = check(!ferrule_open(file.path(), 1, &error) && !strcmp(error.code, "FER-NAT-001"),
                 "a damaged table is not noticed") &&
           passed;
  return passed;
}

}  // namespace

bool executor_memory_passes() { return lends_again() & places_beside() & maps_tables(); }

}  // namespace ferrule::tests
