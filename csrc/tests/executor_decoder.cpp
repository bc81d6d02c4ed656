// What decoders need of the executor: rotations, gates, caches that are written in place, states that
// exchange their contents, weights that several entry points share.
#include <math.h>

#include "executor/plan.h"
#include "tests/executor.h"

namespace ferrule::tests {
namespace {

using executor::Graph;
using executor::Home;
using executor::Plan;
using Dims = std::vector<size_t>;
using Floats = std::vector<float>;
using Wholes = std::vector<int64_t>;

bool rope_matches(bool tokens_first, size_t heads, bool neighbours, size_t table_batch, size_t threads) {
  constexpr size_t kBatch = 2, kTokens = 5, kHeads = 3, kWidth = 10, kHalf = 4;
  Random random(heads + 10 * tokens_first);
  const Tensor x = draw(
      random, tokens_first ? Dims{kBatch, kTokens, kHeads, kWidth} : Dims{kBatch, kHeads, kTokens, kWidth});
  const Tensor cosines = draw(random, {table_batch, 1, kTokens, kHalf}),
               sines = draw(random, {table_batch, 1, kTokens, kHalf});
  const std::string node = std::string(R"("op": "rope", "layout": ")") + (tokens_first ? "bshd" : "bhsd") +
                           R"(", "pairs": ")" + (neighbours ? "neighbours" : "halves") + "\"" +
                           (heads ? R"(, "heads": )" + std::to_string(heads) : "");
  const Tensor got = run_node(node, {x, cosines, sines}, {}, threads);
  bool ok = got.spec.shape == x.spec.shape;
  for (size_t i = 0; i < x.count() && ok; ++i) {
    const size_t feature = i % kWidth, row = i / kWidth, batch = row / (kTokens * kHeads);
    const size_t token = tokens_first ? row / kHeads % kTokens : row % kTokens;
    const size_t head = tokens_first ? row % kHeads : row / kTokens % kHeads;
    float want = x.as<float>()[i];
    if (feature < 2 * kHalf && (heads == 0 || head < heads)) {
      const size_t pair = neighbours ? feature / 2 : feature % kHalf;
      const bool second = neighbours ? feature % 2 : feature >= kHalf;
      const size_t other = neighbours ? i ^ 1 : second ? i - kHalf : i + kHalf;
      const size_t place = ((table_batch == 1 ? 0 : batch) * kTokens + token) * kHalf + pair;
      const float other_value = x.as<float>()[other] * sines.as<float>()[place];
      want = want * cosines.as<float>()[place] + (second ? other_value : -other_value);
    }
    ok = fabsf(got.as<float>()[i] - want) <= 1e-5f;
  }
  return check(ok, node);
}

bool rope_passes() {
  bool ok = true;
  for (const bool tokens_first : {true, false}) {
    for (const size_t heads : {0, 2}) {
      ok &= rope_matches(tokens_first, heads, false, 1, 1) & rope_matches(tokens_first, heads, false, 2, 2);
      ok &= rope_matches(tokens_first, heads, true, 1, 1);
    }
  }
  const Tensor x({1, 5, 3, 8}, Floats(120)), table({5, 4}, Floats(20)), wide({5, 5}, Floats(25));
  const std::string node = R"("op": "rope", "layout": "bshd", "pairs": "halves")";
  ok &= refuses("", node, {x, table, table}) & refuses("FER-NAT-004", node, {x, wide, wide});
  ok &= refuses("FER-NAT-004", node, {x, table, wide}) & refuses("FER-NAT-004", node, {table, table, table});
  ok &= refuses("FER-NAT-004", node + R"(, "heads": 4)", {x, table, table});
  ok &= refuses("FER-NAT-003", R"("op": "rope", "layout": "bshd")", {x, table, table});
  return ok &
         refuses("FER-NAT-003", R"("op": "rope", "layout": "qkv", "pairs": "halves")", {x, table, table});
}

bool gates_pass() {
  Random random(3);
  const Tensor x = draw(random, {2, 3, 14});
  const std::string node = R"("op": "activate", "kind": "silu", "gated": true)";
  const Tensor got = run_node(node, {x});
  bool ok = got.spec.shape == shape_of({2, 3, 7});
  for (size_t i = 0; i < got.count() && ok; ++i) {
    const float gate = x.as<float>()[i / 7 * 14 + i % 7], factor = x.as<float>()[i / 7 * 14 + 7 + i % 7];
    ok = fabsf(got.as<float>()[i] - gate / (1 + expf(-gate)) * factor) <= 1e-6f;
  }
  return check(ok, "gates") & refuses("FER-NAT-004", node, {Tensor({2, 3}, Floats(6))}) &
         refuses("FER-NAT-004", node, {x, x});
}

bool gathers_pass() {
  const Tensor x({2, 2, 3}, Floats{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  const Tensor rows({2, 1}, Wholes{1, -2}), columns({3}, Wholes{0, -1, 1}), beyond({1}, Wholes{2});
  const Tensor got = run_node(R"("op": "gather", "axis": 0)", {x, rows, columns});
  const Floats want = {6, 7, 8, 9, 10, 11, 9, 10, 11, 0, 1, 2, 3, 4, 5, 3, 4, 5};
  const Tensor last = run_node(R"("op": "gather", "axis": 1)", {x, rows, columns});
  const Floats inner = {3, 5, 4, 0, 2, 1, 9, 11, 10, 6, 8, 7};
  return check(got == Tensor({2, 3, 3}, want), "gather along two axes") &
         check(last == Tensor({2, 2, 3}, inner), "gather along the last two axes") &
         refuses("FER-NAT-004", R"("op": "gather", "axis": 2)", {x, rows, columns}) &
         refuses("FER-NAT-004", R"("op": "gather", "axis": 0)", {x, Tensor({2}, Wholes{0, 0}), columns}) &
         refuses("FER-NAT-008", R"("op": "gather", "axis": 0)", {x, rows, beyond});
}

bool writes_pass() {
  const Tensor x({2, 3, 2}, Floats(12, 1)), patch({2, 2, 2}, Floats{1, 2, 3, 4, 5, 6, 7, 8});
  const std::string at_indices = R"("op": "write", "axis": 1)",
                    from = R"("op": "write", "axis": 1, "start": )";
  const Tensor indices({2}, Wholes{2, -3});
  const Tensor scattered({2, 3, 2}, Floats{3, 4, 1, 1, 1, 2, 7, 8, 1, 1, 5, 6});
  const Tensor moved({2, 3, 2}, Floats{1, 1, 1, 2, 3, 4, 1, 1, 5, 6, 7, 8});
  bool ok = check(run_node(at_indices, {x, patch, indices}) == scattered, at_indices);
  ok &= check(run_node(from + "1", {x, patch}) == moved, from);
  ok &= refuses("FER-NAT-004", from + "2", {x, patch}) & refuses("FER-NAT-004", from + "-1", {x, patch});
  ok &= refuses("FER-NAT-008", at_indices, {x, patch, Tensor({2}, Wholes{0, 3})});
  ok &= refuses("FER-NAT-004", at_indices, {x, patch, Tensor({1}, Wholes{0})});
  ok &= refuses("FER-NAT-004", at_indices, {x, patch, Tensor({2, 1}, Wholes{0, 0})});
  return ok & refuses("FER-NAT-004", at_indices, {x, patch});
}

// One entry point over the states a and b, float32 [2, 2].
std::string with_states(const std::string& nodes, const std::string& outputs, const std::string& updates) {
  return R"({"entries": [{"name": "main", "dims": [],
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 2]}], "nodes": [)" +
         nodes + R"(], "outputs": [{"name": "y", "value": )" + outputs + R"(}], "updates": [)" + updates +
         R"(]}], "states": [{"name": "a", "initial": "a"}, {"name": "b", "initial": "b"}]})";
}

const Floats kA = {1, 2, 3, 4}, kB = {5, 6, 7, 8};

TestConstants initial_values() {
  TestConstants constants;
  constants.add("a", Tensor({2, 2}, kA));
  constants.add("b", Tensor({2, 2}, kB));
  return constants;
}

// Whether the graph gives these values, and plans value `number` in the memory of state a.
bool states_give(const std::string& text, const std::vector<Floats>& want, size_t number, bool in_place) {
  const TestConstants constants = initial_values();
  const Tensor x({1, 2}, Floats{10, 20});
  const std::vector<Tensor> got = run_graph(text, {x}, constants);
  bool ok = got.size() == want.size();
  for (size_t i = 0; i < want.size() && ok; ++i) ok = got[i] == Tensor({2, 2}, want[i]);
  const Graph graph = executor::read_graph(text, constants);
  const Plan plan = make_plan(graph.entries[0], graph, {}, 1);
  ok &= (plan.homes[number].kind == Home::Kind::kState) == in_place;
  return check(ok, text);
}

bool states_pass() {
  const std::string write = R"({"op": "write", "axis": 0, "start": 1, "in": ["@a", 0]})";
  const std::string add = R"({"op": "binary", "fn": "add", "in": [1, "@b"]})";
  const std::string late = R"({"op": "binary", "fn": "add", "in": [1, "@a"]})";
  const std::string view_a = R"({"op": "reshape", "shape": [2, 2], "in": ["@a"]})";
  const std::string view_b = R"({"op": "reshape", "shape": [2, 2], "in": ["@b"]})";
  const Floats written = {1, 2, 10, 20};
  // A cache: written in place, then read.
  bool ok =
      states_give(with_states(write + ", " + add, "2", R"(["a", 1])"), {{6, 8, 17, 28}, written}, 1, true);
  // What is read after the write is the old value, which must therefore stay.
  ok &=
      states_give(with_states(write + ", " + late, "2", R"(["a", 1])"), {{2, 4, 13, 24}, written}, 1, false);
  // A view of the old value is an output.
  ok &= states_give(with_states(view_a + ", " + R"({"op": "write", "axis": 0, "start": 1, "in": ["@a", 0]})",
                                "1", R"(["a", 2])"),
                    {kA, written}, 2, false);
  // The state does not become the result.
  ok &= states_give(with_states(write, "1", ""), {written}, 1, false);
  ok &= states_give(with_states(write, "1", R"(["b", 1])"), {written, written}, 1, false);
  // The result is an output and both states' new value.
  ok &= states_give(with_states(write, "1", R"(["a", 1], ["b", 1])"), {written, written, written}, 1, true);
  // Two writes to one state, the second of which is an update.
  const std::string again = R"({"op": "write", "axis": 0, "start": 0, "in": [1, 0]})";
  ok &= states_give(with_states(write + ", " + again, "2", R"(["a", 2])"),
                    {{10, 20, 10, 20}, {10, 20, 10, 20}}, 2, true);
  // States that exchange their contents.
  return ok & states_give(with_states(view_a + ", " + view_b, "1", R"(["a", 2], ["b", 1])"), {kA, kB, kA}, 1,
                          true);
}

// Masks of queries that follow each other in a cache, against the same mask told for each head, which is
// added.
bool cached_attention_passes() {
  constexpr size_t kQueries = 5, kKeys = 12, kHeads = 2, kSize = 16;
  Random random(6);
  const Tensor q = draw(random, {1, kHeads, kQueries, kSize}), k = draw(random, {1, kHeads, kKeys, kSize});
  const Tensor v = draw(random, {1, kHeads, kKeys, kSize});
  const std::string node =
      R"("op": "attention", "heads": 2, "kv_heads": 2, "scale": 0.25, "layout": "bhsd", "mask": true)";
  bool ok = true;
  // The first query's number; beyond the cache's end; a mask with a hole, which is no such.
  for (const auto& [first, hole] : {std::pair<size_t, size_t>{0, 99}, {4, 99}, {7, 99}, {9, 99}, {4, 2}}) {
    std::vector<uint8_t> seen(kQueries * kKeys), twice;
    Floats added(seen.size());
    for (size_t i = 0; i < seen.size(); ++i) {
      seen[i] = i % kKeys <= first + i / kKeys && i % kKeys != hole;
      added[i] = seen[i] ? 0.0f : -3.4e38f;
    }
    for (size_t head = 0; head < kHeads; ++head) twice.insert(twice.end(), seen.begin(), seen.end());
    const Tensor want =
        run_node(node, {q, k, v, Tensor({1, kHeads, kQueries, kKeys}, twice, executor::Dtype::kBool)});
    const Tensor got[] = {
        run_node(node, {q, k, v, Tensor({1, 1, kQueries, kKeys}, seen, executor::Dtype::kBool)}),
        run_node(node, {q, k, v, Tensor({1, 1, kQueries, kKeys}, added)})};
    for (size_t i = 0; i < want.count(); ++i)
      ok &= fabsf(got[0].as<float>()[i] - want.as<float>()[i]) <= 1e-5f &&
            fabsf(got[1].as<float>()[i] - want.as<float>()[i]) <= 1e-5f;
  }
  return check(ok, "attention to a cache");
}

bool sharing_passes() {
  TestConstants constants;
  Random random(4);
  constants.add("w", draw(random, {64, 32}));
  constants.add("table", draw(random, {64, 32}));
  const auto entry = [](const std::string& name, const std::string& weight, const std::string& more) {
    return R"({"name": ")" + name +
           R"(", "dims": [], "inputs": [{"name": "i", "dtype": "int64", "shape": [1]}],
      "nodes": [{"op": "embedding", "kind": "float32", "weight": "table", "in": [0]},
                {"op": "linear", "kind": "float32", "weight": ")" +
           weight + "\"" + more + R"(, "in": [1]}],
      "outputs": [{"name": "y", "value": 2}]})";
  };
  const auto bytes = [&](const std::string& entries) {
    return executor::read_graph(R"({"entries": [)" + entries + "]}", constants).weight_bytes;
  };
  const std::string first = entry("a", "w", ""), same = entry("b", "w", R"(, "activation": "relu")");
  const size_t once = bytes(first);
  return check(once >= 2 * 64 * 32 * sizeof(float), "bytes of weights") &
         check(bytes(first + ", " + same) == once, "two entry points that share their weights") &
         check(bytes(first + ", " + entry("b", "table", "")) > once, "two entry points of other weights");
}

}  // namespace

bool executor_decoder_pass() {
  return rope_passes() & gates_pass() & gathers_pass() & writes_pass() & states_pass() &
         cached_attention_passes() & sharing_passes();
}

}  // namespace ferrule::tests
