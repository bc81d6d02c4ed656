#include "tests/files.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "executor/sha256.h"
#include "ops/checksum.h"

namespace ferrule::tests {

namespace {

constexpr size_t kDepth = 8, kFeatures = 6, kRows = 3;

const char* const kLayer =
    R"({"entries":[{"name":"forward","dims":[{"name":"rows","min":1,"max":16}],"inputs":[)"
    R"({"name":"x","dtype":"float32","shape":["rows",8]}],"nodes":[)"
    R"({"op":"linear","in":[0],"kind":"float32","weight":"weight","input":"float32","activation":"relu"}],)"
    R"("outputs":[{"name":"y","value":1}]}]})";

std::string hash_of(const std::string& bytes) {
  executor::Sha256 sum;
  sum.add(bytes.data(), bytes.size());
  return sum.finish();
}

std::vector<float> draw(size_t count, size_t step) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i * step % 13) / 8 - 0.7f);
  return values;
}

std::vector<float> answer(const std::vector<float>& input, const std::vector<float>& weight) {
  std::vector<float> outputs;
  for (size_t row = 0; row < input.size() / kDepth; ++row) {
    for (size_t n = 0; n < kFeatures; ++n) {
      double sum = 0;
      for (size_t k = 0; k < kDepth; ++k) sum += double{input[row * kDepth + k]} * weight[n * kDepth + k];
      outputs.push_back(static_cast<float>(std::max(0.0, sum)));
    }
  }
  return outputs;
}

}  // namespace

const char* const kBundleFacts =
    R"(, "program": {"main": "model.safetensors"}, "recipe": {"min_cosine": 0.9999}, "schema": 1, "target": "native"})";
const std::vector<std::string> kBundleFiles = {"delegation.json", "program/model.safetensors",
                                               "proof.safetensors"};

std::string safetensors_bytes(const std::vector<StoredArray>& parts, const std::string& metadata) {
  std::string entries = R"("__metadata__":{)" + metadata + '}', data;
  for (const StoredArray& part : parts) {
    entries += ",\"" + part.name + R"(":{"dtype":")" + part.dtype + R"(","shape":[)" + part.shape +
               R"(],"data_offsets":[)" + std::to_string(data.size()) + ',' +
               std::to_string(data.size() + part.bytes.size()) + "]}";
    data += part.bytes;
  }
  const std::string header = '{' + entries + '}';
  std::string file(8, '\0');
  const uint64_t size = header.size();
  memcpy(file.data(), &size, sizeof(size));
  return file + header + data;
}

std::string program_bytes(const std::string& graph, std::vector<StoredArray> parts) {
  parts.insert(parts.begin(), {"program.json", "U8", std::to_string(graph.size()), graph});
  std::string sums = R"("format":"ferrule-program-2")";
  for (const StoredArray& part : parts) {
    char sum[20];
    snprintf(sum, sizeof(sum), "%016llx",
             static_cast<unsigned long long>(ops::checksum(part.bytes.data(), part.bytes.size())));
    sums += ",\"" + part.name + "\":\"" + sum + part.packing + '"';
  }
  return safetensors_bytes(parts, sums);
}

void write_file(const std::string& path, const std::string& bytes) {
  FILE* file = fopen(path.c_str(), "wb");
  if (!file) return;
  fwrite(bytes.data(), 1, bytes.size(), file);
  fclose(file);
}

std::string read_file(const std::string& path) {
  std::string bytes;
  FILE* file = fopen(path.c_str(), "rb");
  if (!file) return bytes;
  char block[4096];
  for (size_t count; (count = fread(block, 1, sizeof(block), file)) > 0;) bytes.append(block, count);
  fclose(file);
  return bytes;
}

TemporaryFile::TemporaryFile() {
  const int handle = mkstemp(path_);
  if (handle >= 0) close(handle);
}

void write_manifest(const std::string& folder, std::vector<std::string> files, const std::string& facts) {
  std::sort(files.begin(), files.end());
  std::string body = "\"files\": {";
  for (size_t i = 0; i < files.size(); ++i) {
    body += (i ? ", \"" : "\"") + files[i] + R"(": {"sha256": ")" +
            hash_of(read_file(folder + "/" + files[i])) + "\"}";
  }
  body += '}' + facts;
  write_file(folder + "/manifest.json", R"({"digest": ")" + hash_of('{' + body) + "\", " + body);
}

void write_bundle(const std::string& folder) {
  std::filesystem::create_directories(folder + "/program");
  const std::vector<float> weight = draw(kFeatures * kDepth, 5);
  write_file(folder + "/program/model.safetensors",
             program_bytes(kLayer, {{"weight", "F32", "6,8", bytes_of(weight)}}));
  write_file(folder + "/delegation.json", "[]\n");
  std::vector<StoredArray> parts;
  for (size_t row = 0; row < kRows; ++row) {
    const size_t rows = 2 * row + 1;
    const std::vector<float> input = draw(rows * kDepth, row + 3);
    const std::string name = "000" + std::to_string(row), shape = std::to_string(rows);
    parts.push_back({name + "/input/x", "F32", shape + ",8", bytes_of(input)});
    parts.push_back({name + "/reference/y", "F32", shape + ",6", bytes_of(answer(input, weight))});
  }
  write_file(folder + "/proof.safetensors", safetensors_bytes(parts, ""));
  write_manifest(folder, kBundleFiles, kBundleFacts);
}

}  // namespace ferrule::tests
