// Programs as an app opens them: through the C interface, from files that are sound, cut short, flipped, or
// adversarial.
#include <stdio.h>
#include <string.h>

#include <string>
#include <vector>

#include "executor/file.h"
#include "ferrule/program.h"
#include "tests/executor.h"
#include "tests/files.h"

namespace ferrule::tests {

namespace {

const char* const kGraph =
    R"({"entries":[{"name":"forward","dims":[{"name":"s","min":1,"max":16}],"inputs":[)"
    R"({"name":"ids","dtype":"int64","shape":[1,"s"]}],"nodes":[)"
    R"({"op":"embedding","in":[0],"kind":"float32","weight":"table"},)"
    R"({"op":"layer_norm","in":[1],"weight":"ones","epsilon":1e-5,"axes":1},)"
    R"({"op":"linear","in":[2],"kind":"float32","weight":"table","input":"float32","activation":"gelu"},)"
    R"({"op":"reshape","in":[3],"shape":[1,["s",6,"*"]]},)"
    R"({"op":"slice","in":[4],"axis":1,"start":2,"end":["s",6,"*",1,"-"],"step":1},)"
    R"({"op":"reduce","in":[5],"fn":"mean","axes":[1],"keep":true},)"
    R"({"op":"permute","in":[3],"axes":[0,2,1]},)"
    R"({"op":"matmul","in":[7,3]},)"
    R"({"op":"softmax","in":[8]},)"
    R"({"op":"attention","in":[2,2,2],"heads":2,"kv_heads":2,"scale":0.5,"layout":"bshd","causal":true},)"
    R"({"op":"concat","in":[10,2],"axis":1},)"
    R"({"op":"binary","in":[6,"@state"],"fn":"add"}],)"
    R"("outputs":[{"name":"y","value":9},{"name":"z","value":11}],"updates":[["state",12]]}],)"
    R"("states":[{"name":"state","initial":"zero"}]})";

std::string floats(size_t count) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i % 7) - 3);
  return bytes_of(values);
}

// A whole file, its checksums right whatever the graph says.
std::string make_file(const std::string& graph, const std::vector<StoredArray>& more = {}) {
  std::vector<StoredArray> parts = {{"table", "F32", "6,8", floats(48)},
                                    {"ones", "F32", "8", floats(8)},
                                    {"zero", "F32", "1,1", floats(1)}};
  parts.insert(parts.end(), more.begin(), more.end());
  return program_bytes(graph, parts);
}

bool is_told(const ferrule_error& error) {
  return strncmp(error.code, "FER-NAT-00", 10) == 0 && error.text[0] != 0;
}

// Opens and runs it twice at two lengths. False where an error lacks its code.
bool survives(const TemporaryFile& file) {
  ferrule_error error = {};
  ferrule_program* program = ferrule_open(file.path(), 2, &error);
  if (!program) return is_told(error);
  bool passed = true;
  int64_t ids[16] = {5, 0, 3, 3, 1, 2, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1};
  for (const size_t length : {3, 16, 3}) {
    for (size_t entry = 0; entry < ferrule_entry_count(program); ++entry) {
      std::vector<ferrule_array> outputs(ferrule_output_count(program, entry));
      const ferrule_array input = {FERRULE_INT64, 2, {1, length}, ids};
      error = {};
      const bool ran = ferrule_run(program, entry, &input, 1, outputs.data(), outputs.size(), &error);
      passed = passed && (ran || is_told(error));
    }
  }
  ferrule_close(program);
  return passed;
}

bool runs_as_written(const TemporaryFile& file) {
  ferrule_error error = {};
  ferrule_program* program = ferrule_open(file.path(), 1, &error);
  if (!program) return fprintf(stderr, "%s %s\n", error.code, error.text), false;
  int64_t ids[3] = {5, 0, 3};
  const ferrule_array input = {FERRULE_INT64, 2, {1, 3}, ids};
  ferrule_array outputs[2];
  bool passed = ferrule_entry_count(program) == 1 && strcmp(ferrule_entry_name(program, 0), "forward") == 0 &&
                strcmp(ferrule_input_name(program, 0, 0), "ids") == 0 &&
                ferrule_input_count(program, 0) == 1 && strcmp(ferrule_output_name(program, 0, 1), "z") == 0;
  passed = passed && ferrule_run(program, 0, &input, 1, outputs, 2, &error);
  if (!passed) fprintf(stderr, "%s %s\n", error.code, error.text);
  passed = passed && outputs[0].rank == 3 && outputs[1].dims[1] == 6;
  passed = passed && !ferrule_run(program, 1, &input, 1, outputs, 2, &error) && is_told(error);
  passed = passed && !ferrule_run(program, 0, &input, 1, outputs, 1, &error) && is_told(error);
  passed = passed && !ferrule_run(program, 0, &input, 0, outputs, 2, nullptr);
  ferrule_array wrong = input;
  wrong.rank = 9;
  passed = passed && !ferrule_run(program, 0, &wrong, 1, outputs, 2, &error) && is_told(error);
  wrong = input;
  wrong.data = nullptr;
  passed = passed && !ferrule_run(program, 0, &wrong, 1, outputs, 2, &error) && is_told(error);
  ids[1] = 6;
  passed = passed && !ferrule_run(program, 0, &input, 1, outputs, 2, &error) && strstr(error.code, "008");
  passed = passed && ferrule_reset(program, &error);
  ferrule_close(program);
  return passed;
}

bool reads_as(const executor::ProgramFile& file, const char* name, executor::Dtype dtype,
              const std::vector<int>& codes) {
  const executor::Constant found = file.read(name, executor::allocate);
  bool passed = found.spec.dtype == dtype && found.shape().rank == 2 && found.shape().count() == codes.size();
  for (size_t i = 0; passed && i < codes.size(); ++i) {
    const int code = dtype == executor::Dtype::kInt8 ? found.as<int8_t>()[i] : found.as<uint8_t>()[i];
    passed = code == codes[i];
  }
  if (!passed) fprintf(stderr, "the codes of %s are not those packed\n", name);
  return passed;
}

bool unpacks_codes(const TemporaryFile& file) {
  const std::string bytes = "\x8f\x10";  // low bits first: 15, 8, 0, 1
  const StoredArray parts[] = {{"signed", "U8", "1,2", bytes, " int4"},
                               {"unsigned", "U8", "1,2", bytes, " uint4"},
                               {"pairs", "U8", "2,1", bytes, " uint2"}};
  file.write(make_file(kGraph, {parts[0], parts[1], parts[2]}));
  const executor::ProgramFile opened(file.path());
  bool passed = reads_as(opened, "signed", executor::Dtype::kInt8, {-1, -8, 0, 1}) &&
                reads_as(opened, "unsigned", executor::Dtype::kUint8, {15, 8, 0, 1}) &&
                reads_as(opened, "pairs", executor::Dtype::kUint8, {3, 3, 0, 2, 0, 0, 1, 0});
  const StoredArray wrong[] = {{"c", "U8", "1,2", bytes, " int3"},
                               {"c", "U8", "1,2", bytes, "int4"},
                               {"c", "I8", "1,2", bytes, " int4"},
                               {"c", "U8", "", "x", " int4"}};
  for (const StoredArray& part : wrong) {
    file.write(make_file(kGraph, {part}));
    ferrule_error error = {};
    ferrule_program* program = ferrule_open(file.path(), 1, &error);
    passed = passed && !program && strcmp(error.code, "FER-NAT-001") == 0;
    ferrule_close(program);
  }
  return passed;
}

struct Draw {
  uint64_t state;
  size_t below(size_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(state >> 33) % bound;
  }
};

// A graph that is not what a lowering writes: characters exchanged, digits grown, pieces doubled or dropped.
std::string distort(std::string graph, Draw& draw) {
  static const char* const kPieces[] = {
      "0",     "-1", "99999999999", "4611686018427387904", "1e99", "\"s\"", "[]",
      "null",  "{}", "true",        "[\"s\",2,\"//\"]",    "8",    "\"\"",  "[0]",
      "[1,0]", "1",  "\"table\"",   "\"@state\"",          "2"};
  const size_t changes = 1 + draw.below(3);
  for (size_t i = 0; i < changes; ++i) {
    const size_t at = draw.below(graph.size());
    switch (draw.below(4)) {
      case 0:
        graph[at] = static_cast<char>(' ' + draw.below(95));
        break;
      case 1:
        graph.erase(at, 1 + draw.below(4));
        break;
      default: {
        // The number, text or list that begins here, or after here, becomes another.
        const size_t begin = graph.find_first_of("0123456789", at);
        if (begin == std::string::npos) break;
        const size_t end = graph.find_first_not_of("0123456789.e-", begin);
        graph.replace(begin, end - begin, kPieces[draw.below(sizeof(kPieces) / sizeof(kPieces[0]))]);
      }
    }
  }
  return graph;
}

}  // namespace

bool executor_files_pass() {
  const TemporaryFile file;
  const std::string sound = make_file(kGraph);
  file.write(sound);
  if (!runs_as_written(file) || !survives(file) || !unpacks_codes(file)) return false;
  Draw draw = {7};
  for (size_t i = 0; i < 200; ++i) {
    file.write(sound.substr(0, draw.below(sound.size())));
    if (!survives(file)) return false;
  }
  for (size_t i = 0; i < 400; ++i) {
    std::string flipped = sound;
    flipped[draw.below(sound.size())] ^= static_cast<char>(1 << draw.below(8));
    file.write(flipped);
    if (!survives(file)) return false;
  }
  for (size_t i = 0; i < 3000; ++i) {
    const std::string graph = distort(kGraph, draw);
    file.write(make_file(graph));
    if (!survives(file)) return fprintf(stderr, "no code for %s\n", graph.c_str()), false;
  }
  return true;
}

}  // namespace ferrule::tests
