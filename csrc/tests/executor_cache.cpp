// Ops on coded keys and values: against plain loops over what the codes stand for, in states, and with
// damaged attributes and inputs.
#include <math.h>

#include <algorithm>

#include "executor/plan.h"
#include "tests/executor.h"

namespace ferrule::tests {
namespace {

using executor::Dtype;
using Dims = std::vector<size_t>;
using Floats = std::vector<float>;
using Bytes = std::vector<uint8_t>;
using Ends = std::vector<int32_t>;

constexpr size_t kBatch = 2, kHeads = 4, kKvHeads = 2, kQueries = 3, kTokens = 11;

// `node` with an output for each of its results.
std::vector<Tensor> run_all(const std::string& node, const std::vector<Tensor>& inputs, size_t results,
                            size_t threads = 1) {
  std::string text = graph_of(node + R"(, "results": )" + std::to_string(results), inputs), more;
  for (size_t i = 1; i < results; ++i) {
    const std::string value = std::to_string(inputs.size() + i);
    more += R"(, {"name": "y)" + value + R"(", "value": )" + value + "}";
  }
  text.insert(text.rfind("]}]}"), more);
  return run_graph(text, inputs, {}, threads);
}

struct Coding {
  size_t bits, group;
  std::string text() const {
    return R"("bits": )" + std::to_string(bits) + R"(, "group": )" + std::to_string(group);
  }
};

// What {codes, scales, offsets} stand for, by the form that ferrule/attention.h tells.
Tensor decode(const std::vector<Tensor>& coded, const Coding& coding, size_t size) {
  const auto& codes = coded[0].spec.shape;
  const size_t rows = codes[0] * codes[1] * codes[2], bytes = codes[3], groups = coded[1].spec.shape[3];
  Floats values(rows * size);
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t row = i / size, channel = i % size, shift = channel / bytes * coding.bits;
    const uint8_t byte = coded[0].as<uint8_t>()[row * bytes + channel % bytes];
    const int code = coding.bits == 8 ? static_cast<int8_t>(byte) : byte >> shift & ((1 << coding.bits) - 1);
    const size_t scale = row * groups + (coding.group ? channel / coding.group : 0);
    values[i] = coded[1].as<float>()[scale] * static_cast<float>(code);
    if (coded.size() == 3) values[i] += coded[2].as<float>()[scale];
  }
  return Tensor({codes[0], codes[1], codes[2], size}, values);
}

// softmax(scale * q . k) . v, with as many keys as `ends` says; `causal` lets the last query see all keys.
Floats attend(const Tensor& q, const Tensor& k, const Tensor& v, const Ends& ends, bool causal) {
  const size_t size = q.spec.shape[3], queries = q.spec.shape[2], keys = k.spec.shape[2];
  Floats result(q.count());
  for (size_t row = 0; row < result.size() / size; ++row) {
    const size_t batch = row / queries / kHeads, head = row / queries % kHeads / (kHeads / kKvHeads);
    const size_t first = (batch * kKvHeads + head) * keys * size;
    const auto end = static_cast<size_t>(ends[batch]);
    const size_t seen = causal ? std::min(end, row % queries + 1 + keys - queries) : end;
    std::vector<double> sums(size);
    double total = 0;
    for (size_t key = 0; key < seen; ++key) {
      double logit = 0;
      for (size_t c = 0; c < size; ++c)
        logit += 0.25 * q.as<float>()[row * size + c] * k.as<float>()[first + key * size + c];
      total += exp(logit);
      for (size_t c = 0; c < size; ++c) sums[c] += exp(logit) * v.as<float>()[first + key * size + c];
    }
    for (size_t c = 0; c < size; ++c) result[row * size + c] = static_cast<float>(sums[c] / total);
  }
  return result;
}

bool codes_match(const Coding& coding, size_t size, size_t threads) {
  Random random(size);
  const std::string node = R"("op": "quantize_kv", "clip": 1, )" + coding.text();
  const Tensor x = draw(random, {kBatch, kKvHeads, kTokens, size});
  const std::vector<Tensor> coded = run_all(node, {x}, 3, threads);
  const size_t groups = coding.group ? (size + coding.group - 1) / coding.group : 1;
  bool ok = coded[0].spec.dtype == Dtype::kUint8 &&
            coded[0].spec.shape == shape_of({kBatch, kKvHeads, kTokens, (size * coding.bits + 7) / 8}) &&
            coded[1].spec.shape == shape_of({kBatch, kKvHeads, kTokens, groups}) &&
            coded[2].spec.shape == coded[1].spec.shape;
  const Tensor decoded = decode(coded, coding, size);
  for (size_t i = 0; ok && i < x.count(); ++i) {
    const size_t channel = i % size, group = coding.group ? channel / coding.group : 0;
    const float step = coded[1].as<float>()[i / size * groups + group];
    ok = fabsf(decoded.as<float>()[i] - x.as<float>()[i]) <= 0.51f * step;
  }
  return check(ok, node + " of " + std::to_string(size));
}

bool attention_matches(const Coding& coding, size_t size, bool causal, bool has_offsets, size_t threads) {
  Random random(size + causal);
  const Tensor q = draw(random, {kBatch, kHeads, kQueries, size});
  const Ends ends = {kTokens, kTokens - 3};
  std::vector<Tensor> inputs = {q}, decoded;
  for (size_t side = 0; side < 2; ++side) {
    const Tensor x = draw(random, {kBatch, kKvHeads, kTokens, size});
    std::vector<Tensor> coded = run_all(R"("op": "quantize_kv", "clip": 1, )" + coding.text(), {x}, 3);
    if (!has_offsets && side == 0) coded.pop_back();
    inputs.insert(inputs.end(), coded.begin(), coded.end());
    decoded.push_back(decode(coded, coding, size));
  }
  inputs.push_back(Tensor({kBatch}, ends));
  const std::string node = R"("op": "attention_quantized", "scale": 0.25, "key_ends": true, )" +
                           coding.text() + R"(, "value_offsets": true, "key_offsets": )" +
                           (has_offsets ? "true" : "false") + R"(, "causal": )" + (causal ? "true" : "false");
  const Tensor got = run_node(node, inputs, {}, threads);
  const Floats want = attend(q, decoded[0], decoded[1], ends, causal);
  bool ok = got.spec.dtype == Dtype::kFloat32 && got.spec.shape == q.spec.shape;
  for (size_t i = 0; ok && i < want.size(); ++i) ok = fabsf(got.as<float>()[i] - want[i]) <= 1e-4f;
  return check(ok, node + " of " + std::to_string(size));
}

bool ops_match() {
  bool ok = true;
  for (const Coding& coding : {Coding{8, 0}, {8, 16}, {4, 0}, {4, 32}, {2, 16}}) {
    for (const size_t size : {16, 29, 64}) {
      ok &= codes_match(coding, size, 1 + size % 2);
      for (const bool causal : {false, true}) ok &= attention_matches(coding, size, causal, true, 1 + causal);
    }
  }
  return ok & attention_matches({8, 0}, 32, false, false, 1) & attention_matches({8, 16}, 29, true, false, 2);
}

// A token is coded, written into three states where they lie, and attends to the first two tokens of them.
bool state_passes() {
  const std::string states[] = {"codes", "scales", "offsets"};
  std::string nodes = R"({"op": "quantize_kv", "bits": 4, "group": 0, "clip": 1, "results": 3, "in": [0]})";
  std::string updates, told;
  TestConstants constants;
  for (size_t i = 0; i < 3; ++i) {
    const std::string comma = i ? ", " : "", name = "\"" + states[i] + "\"";
    nodes += R"(, {"op": "write", "axis": 2, "start": 1, "in": ["@)" + states[i] + "\", " +
             std::to_string(i + 2) + "]}";
    updates += comma + "[" + name + ", " + std::to_string(i + 5) + "]";
    told += comma + R"({"name": )" + name + R"(, "initial": )" + name + "}";
    const size_t width = i ? 1 : 8;
    constants.add(states[i], i ? Tensor({1, 1, 5, width}, Floats(5 * width, 0.5f))
                               : Tensor({1, 1, 5, width}, Bytes(5 * width, 0x21)));
  }
  nodes += R"(, {"op": "attention_quantized", "bits": 4, "group": 0, "scale": 0.25, "key_offsets": true,
    "value_offsets": true, "key_ends": true, "in": [0, 5, 6, 7, 5, 6, 7, 1]})";
  const std::string text = R"({"entries": [{"name": "main", "dims": [],
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 1, 1, 16]}, {"name": "n", "dtype": "int32", "shape": [1]}],
    "nodes": [)" + nodes + R"(], "outputs": [{"name": "y", "value": 8}], "updates": [)" +
                           updates + R"(]}], "states": [)" + told + "]}";
  Random random(2);
  const Tensor x = draw(random, {1, 1, 1, 16});
  const std::vector<Tensor> got = run_graph(text, {x, Tensor({1}, Ends{2})}, constants);
  const auto graph = executor::read_graph(text, constants);
  const auto plan = make_plan(graph.entries[0], graph, {}, 1);
  bool ok = true;
  for (size_t value = 5; value < 8; ++value) ok &= plan.homes[value].kind == executor::Home::Kind::kState;
  const std::vector<Tensor> coded = run_all(R"("op": "quantize_kv", "bits": 4, "clip": 1)", {x}, 3);
  const auto* codes = got[1].as<uint8_t>();
  ok &= !memcmp(codes + 8, coded[0].as<uint8_t>(), 8) && codes[0] == 0x21 && codes[16] == 0x21;
  // Of the two keys that count, one is the token itself: what is written has been read.
  const Tensor cache = decode({got[1], got[2], got[3]}, {4, 0}, 16);
  double logits[2] = {}, y = 0;
  for (size_t i = 0; i < 32; ++i) logits[i / 16] += 0.25 * x.as<float>()[i % 16] * cache.as<float>()[i];
  const double share = 1 / (1 + exp(logits[0] - logits[1]));
  for (size_t c = 0; c < 16; ++c) {
    y = (1 - share) * cache.as<float>()[c] + share * cache.as<float>()[16 + c];
    ok &= fabs(got[0].as<float>()[c] - y) <= 1e-4;
  }
  return check(ok, "a cache of codes that is a state");
}

std::vector<Tensor> attention_inputs(Random& random, size_t bytes) {
  const Tensor q = draw(random, {1, 4, 2, 32}), scales = draw(random, {1, 2, 5, 2});
  const Tensor codes({1, 2, 5, bytes}, Bytes(10 * bytes, 0x5A));
  return {q, codes, scales, scales, codes, scales, scales, Tensor({1}, Ends{4})};
}

bool refuses_what_does_not_fit() {
  Random random(5);
  const std::string write = R"("op": "quantize_kv", "results": 3, )", good = R"("bits": 4, "group": 16)";
  const Tensor x = draw(random, {1, 2, 5, 32}), flat = draw(random, {2, 5, 32}), none({1, 2, 5, 0}, Floats());
  bool ok = refuses("", write + good + R"(, "clip": 0.5)", {x});
  for (const char* clip : {"0", "1.01", "-1", "\"nan\"", "null"})
    ok &= refuses("FER-NAT-003", write + good + R"(, "clip": )" + clip, {x});
  for (const char* bad : {R"("bits": 3)", R"("bits": 4, "group": 8)", R"("bits": 4, "group": -16)",
                          R"("bits": "4")", R"("group": 16)"})
    ok &= refuses("FER-NAT-003", write + bad + R"(, "clip": 1)", {x});
  ok &= refuses("FER-NAT-003", R"("op": "quantize_kv", "clip": 1, )" + good, {x});  // of one result
  for (const Tensor& wrong : {flat, none, Tensor({1, 2, 5, 32}, Ends(320))})
    ok &= refuses("FER-NAT-004", write + good + R"(, "clip": 1)", {wrong});

  const std::string read = R"("op": "attention_quantized", "scale": 0.25, )" + good;
  const std::string all = read + R"(, "key_offsets": true, "value_offsets": true)";
  std::vector<Tensor> inputs = attention_inputs(random, 16);
  ok &= refuses("", all + R"(, "key_ends": true)", inputs) & refuses("FER-NAT-004", all, inputs);
  ok &= refuses("FER-NAT-003", read + R"(, "key_offsets": true)", inputs);
  ok &= refuses("FER-NAT-003", R"("op": "attention_quantized", )" + good, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    std::vector<Tensor> wrong = inputs;
    wrong[i] = i == 7 ? Tensor({2}, Ends{1, 1}) : draw(random, {1, 2, 5, 3});
    ok &= refuses("FER-NAT-004", all + R"(, "key_ends": true)", wrong);
  }
  for (const int32_t end : {-1, 6}) {
    inputs[7] = Tensor({1}, Ends{end});
    ok &= refuses("FER-NAT-008", all + R"(, "key_ends": true)", inputs);
  }
  return ok;
}

// Attributes and shapes that anything may have happened to: the program is refused, or runs.
bool survives_damage() {
  const char* const values[] = {"8",
                                "4",
                                "2",
                                "0",
                                "16",
                                "32",
                                "-16",
                                "1e300",
                                "0.5",
                                "\"nan\"",
                                "\"\"",
                                "true",
                                "[]",
                                "{}",
                                "null",
                                "[1, 2, \"*\"]",
                                "9223372036854775807"};
  const char* const names[] = {"bits",          "group",    "clip",    "scale",   "causal", "key_offsets",
                               "value_offsets", "key_ends", "results", "sizes",   "counts", "count",
                               "protected",     "left",     "heads",   "kv_heads"};
  const char* const ops[] = {"quantize_kv", "attention_quantized", "token_match", "token_merge"};
  const char* const allowed[] = {"", "FER-NAT-003", "FER-NAT-004", "FER-NAT-005", "FER-NAT-008"};
  Random random(9);
  bool ok = true;
  size_t ran = 0;
  for (size_t turn = 0; turn < 3000; ++turn) {
    const size_t op = turn % 4;
    std::map<std::string, std::string> told = {{"bits", "4"},
                                               {"group", "16"},
                                               {"key_offsets", "true"},
                                               {"value_offsets", "true"},
                                               {"key_ends", "true"},
                                               {"scale", "1"},
                                               {"clip", "1"},
                                               {"heads", "2"},
                                               {"kv_heads", "2"},
                                               {"protected", "1"},
                                               {"count", "1"},
                                               {"left", "4"},
                                               {"results", op == 0   ? "3"
                                                           : op == 3 ? "2"
                                                                     : "1"}};
    for (int64_t i = random.integer(0, 2); i > 0; --i)
      told[names[random.integer(0, 15)]] = values[random.integer(0, 16)];
    std::string node = R"("op": ")" + std::string(ops[op]) + R"(", "layout": "bhsd")";
    for (const auto& [name, value] : told) node += ", \"" + name + "\": " + value;
    std::vector<Tensor> inputs = {draw(random, {1, 2, 5, 32})};
    if (op == 1) inputs = attention_inputs(random, 16);
    if (op == 3) inputs = {draw(random, {1, 5, 8}), Tensor({1, 5}, Ends{0, 1, 2, 3, 3})};
    if (random.chance(4)) {
      Dims dims;
      for (int64_t i = random.integer(0, 5); i > 0; --i)
        dims.push_back(static_cast<size_t>(random.integer(0, 3)));
      inputs[static_cast<size_t>(random.integer(0, static_cast<int64_t>(inputs.size()) - 1))] =
          draw(random, dims);
    }
    const std::string code = code_of(node, inputs);
    ran += code.empty();
    const bool known = std::find(std::begin(allowed), std::end(allowed), code) != std::end(allowed);
    ok &= check(known, node + " gives " + code);
  }
  return ok & check(ran > 300 && ran < 2700, std::to_string(ran) + " of 3000 damaged nodes ran");
}

}  // namespace

bool executor_cache_passes() {
  return ops_match() & state_passes() & refuses_what_does_not_fit() & survives_damage();
}

}  // namespace ferrule::tests
