// The executor's ops that run kernels, against plain loops.
#include <float.h>
#include <math.h>
#include <stdio.h>

#include <algorithm>
#include <functional>

#include "tests/executor.h"
#include "tests/rig.h"

namespace ferrule::tests {
namespace {

using executor::Dtype;
using Floats = std::vector<float>;

Floats draw(Random& random, size_t count) {
  Floats values(count);
  for (float& value : values) value = random.normal();
  return values;
}

bool is_near(const char* what, const Tensor& got, const Tensor& want, float absolute) {
  bool same = got.spec.dtype == Dtype::kFloat32 && got.spec.shape == want.spec.shape;
  for (size_t i = 0; same && i < want.count(); ++i) {
    const float g = got.as<float>()[i], w = want.as<float>()[i];
    same = g == w || fabsf(g - w) <= absolute + 1e-5f * fabsf(w);
    if (!same) printf("%s: element %zu is %g, not %g\n", what, i, g, w);
  }
  if (!same)
    printf("%s: %s differs from %s\n", what, got.spec.shape.text().c_str(), want.spec.shape.text().c_str());
  return same;
}

float silu(float x) { return x / (1 + expf(-x)); }

// silu(x . weight^T + bias) + residual.
Tensor multiply(const Tensor& x, const Floats& weight, const Floats& bias, const Floats& residual) {
  const size_t rows = bias.size(), depth = weight.size() / rows, m = x.count() / depth;
  Floats y(m * rows);
  for (size_t i = 0; i < y.size(); ++i) {
    double sum = bias[i % rows];
    for (size_t k = 0; k < depth; ++k)
      sum += static_cast<double>(x.as<float>()[i / rows * depth + k]) * weight[i % rows * depth + k];
    y[i] = silu(static_cast<float>(sum)) + residual[i];
  }
  return Tensor({2, m / 2, rows}, y);
}

constexpr size_t kRows = 20, kDepth = 128;

bool linear_matches(const char* codec, const Floats& weight, TestConstants constants, float absolute) {
  Random random(1);
  const Tensor x({2, 3, kDepth}, draw(random, 6 * kDepth));
  const Floats bias = draw(random, kRows), residual = draw(random, 6 * kRows);
  constants.add("b", Tensor({kRows}, bias));
  const std::string attributes =
      R"("op": "linear", "bias": "b", "activation": "silu", "residual": true, )" + std::string(codec);
  const Tensor want = multiply(x, weight, bias, residual);
  bool ok = true;
  for (const size_t threads : {1, 2})
    ok &= is_near(codec, run_node(attributes, {x, Tensor({2, 3, kRows}, residual)}, constants, threads), want,
                  absolute);
  return ok;
}

TestConstants arrays(std::initializer_list<std::pair<const char*, Tensor>> given) {
  TestConstants constants;
  for (const auto& [name, tensor] : given) constants.add(name, tensor);
  return constants;
}

bool linear_passes() {
  Random random(2);
  const Floats dense = draw(random, kRows * kDepth);
  std::vector<int8_t> codes(dense.size());
  std::vector<uint8_t> places(dense.size());
  Floats scales(kRows * 4), table = draw(random, 16), affine(dense.size()), lookup(dense.size());
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = 0.0625f * static_cast<float>(1 + i % 7);
  for (size_t i = 0; i < dense.size(); ++i) {
    codes[i] = static_cast<int8_t>(random.integer(-8, 7));
    places[i] = static_cast<uint8_t>(random.integer(0, 15));
    affine[i] = static_cast<float>(codes[i]) * scales[i / 32];
    lookup[i] = table[places[i]] * scales[i / kDepth];
  }
  const Floats row_scales(scales.begin(), scales.begin() + kRows);
  Floats by_row(dense.size());
  for (size_t i = 0; i < dense.size(); ++i) by_row[i] = static_cast<float>(codes[i]) * row_scales[i / kDepth];
  const Tensor c({kRows, kDepth}, codes);
  const TestConstants grouped = arrays({{"c", c}, {"s", Tensor({kRows, 4}, scales)}});
  const TestConstants plain = arrays({{"c", c}, {"s", Tensor({kRows, 1}, row_scales)}});
  const TestConstants palette = arrays({{"c", Tensor({kRows, kDepth}, places)},
                                        {"s", Tensor({kRows}, row_scales)},
                                        {"t", Tensor({1, 16}, table)}});
  bool ok = linear_matches(R"("kind": "float32", "weight": "w")", dense,
                           arrays({{"w", Tensor({kRows, kDepth}, dense)}}), 1e-4f);
  ok &= linear_matches(R"("kind": "affine", "bits": 4, "group": 32, "codes": "c", "scales": "s")", affine,
                       grouped, 1e-3f);
  ok &= linear_matches(R"("kind": "affine", "bits": 8, "codes": "c", "scales": "s", "input": "dynamic8")",
                       by_row, plain, 0.6f);
  ok &= linear_matches(
      R"("kind": "affine", "bits": 8, "codes": "c", "scales": "s", "input": "static8", "input_scale": 0.04, "input_zero": 0)",
      by_row, plain, 0.8f);
  ok &= linear_matches(R"("kind": "lookup", "bits": 4, "codes": "c", "scales": "s", "table": "t")", lookup,
                       palette, 1e-3f);
  return ok;
}

bool linear_refuses() {
  const Tensor x({2, 4}, Floats(8)), w({3, 4}, Floats(12));
  const TestConstants constants = arrays({{"w", w},
                                          {"empty", Tensor({8, 0}, Floats())},
                                          {"nan", Tensor({3, 4}, Floats(12, NAN))},
                                          {"two", Tensor({2}, Floats(2))},
                                          {"c", Tensor({3, 128}, std::vector<int8_t>(384))},
                                          {"s", Tensor({3, 4}, Floats(12, 0.1f))},
                                          {"big", Tensor({3, 4}, std::vector<int8_t>(12, 100))},
                                          {"one", Tensor({3}, Floats(3))}});
  const std::string good = R"("op": "linear", "kind": "float32", "weight": "w")";
  const std::string coded = R"("op": "linear", "kind": "affine", "codes": "c", "scales": "s")";
  const char* bad[] = {R"("op": "linear")",
                       R"("op": "linear", "kind": "float16", "weight": "w")",
                       R"("op": "linear", "kind": "float32", "weight": "absent")",
                       R"("op": "linear", "kind": "float32", "weight": "two")",
                       R"("op": "linear", "kind": "float32", "weight": "empty")",
                       R"("op": "linear", "kind": "float32", "weight": "nan")",
                       R"("op": "linear", "kind": "affine", "bits": 4, "codes": "big", "scales": "one")",
                       R"("op": "linear", "kind": "affine", "bits": 9, "codes": "big", "scales": "one")"};
  bool ok = true;
  for (const char* attributes : bad) ok &= refuses("FER-NAT-003", attributes, {x}, constants);
  for (const char* more : {R"(, "bias": "two")", R"(, "activation": "tan")", R"(, "input": "dynamic8")"})
    ok &= refuses("FER-NAT-003", good + more, {x}, constants);
  // Scales that bfloat16 does not hold; groups of 8 bits; a scale of the input that is none.
  for (const char* more : {R"(, "bits": 4, "group": 32)", R"(, "bits": 8, "group": 32)", R"(, "group": -1)"})
    ok &= refuses("FER-NAT-003", coded + more, {x}, constants);
  for (const char* scale : {"0", "1e300", "\"x\""}) {
    const std::string range =
        std::string(R"(, "input": "static8", "input_zero": 0, "input_scale": )") + scale;
    ok &=
        refuses("FER-NAT-003", R"("op": "linear", "kind": "affine", "codes": "big", "scales": "one")" + range,
                {x}, constants);
  }
  const std::string residual = good + R"(, "residual": true)";
  ok &= refuses("FER-NAT-004", good, {Tensor({2, 5}, Floats(10))}, constants);
  ok &= refuses("FER-NAT-004", good, {Tensor({4}, std::vector<int64_t>(4))}, constants);
  ok &= refuses("FER-NAT-004", good, {x, x}, constants);
  ok &= refuses("FER-NAT-004", residual, {x}, constants);
  ok &= refuses("FER-NAT-004", residual, {x, Tensor({3}, Floats(3))}, constants);
  ok &= refuses("", residual, {x, Tensor({2, 3}, Floats(6))}, constants);
  ok &= refuses("", good, {Tensor({0, 4}, Floats())}, constants);
  return ok;
}

bool embedding_passes() {
  Random random(3);
  const size_t width = 40, rows = 7;
  const Floats table = draw(random, rows * width), scales = draw(random, rows * 3);
  std::vector<int8_t> codes(table.size());
  Floats decoded(table.size());
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<int8_t>(random.integer(-128, 127));
    decoded[i] = static_cast<float>(codes[i]) * scales[i / width * 3 + i % width / 16];
  }
  const TestConstants constants = arrays({{"w", Tensor({rows, width}, table)},
                                          {"c", Tensor({rows, width}, codes)},
                                          {"s", Tensor({rows, 3}, scales)}});
  const Tensor indices({2, 2}, std::vector<int64_t>{6, 0, 3, 3});
  const std::string floats = R"("op": "embedding", "kind": "float32", "weight": "w")";
  const std::string coded =
      R"("op": "embedding", "kind": "affine", "codes": "c", "scales": "s", "group": 16)";
  const auto take = [&](const Floats& from) {
    Floats taken;
    for (const size_t row : {6, 0, 3, 3})
      taken.insert(taken.end(), from.begin() + static_cast<long>(row * width),
                   from.begin() + static_cast<long>((row + 1) * width));
    return Tensor({2, 2, width}, taken);
  };
  bool ok = is_near("embedding", run_node(floats, {indices}, constants), take(table), 0);
  ok &= is_near("embedding of codes", run_node(coded, {indices}, constants), take(decoded), 1e-6f);
  for (const int64_t index : {int64_t{7}, int64_t{-1}, INT64_MIN, INT64_MAX})
    ok &= refuses("FER-NAT-008", floats, {Tensor({1}, std::vector<int64_t>{index})}, constants);
  ok &= refuses("FER-NAT-003",
                R"("op": "embedding", "kind": "affine", "codes": "c", "scales": "s", "group": 8)", {indices},
                constants);
  ok &= refuses("FER-NAT-003", R"("op": "embedding", "kind": "affine", "codes": "c", "scales": "s")",
                {indices}, constants);
  ok &= refuses("FER-NAT-004", floats, {Tensor({1}, Floats(1))}, constants);
  return ok;
}

// Either norm, over the last 12 elements of rows.
Tensor normalize(const Floats& x, const Floats& weight, const Floats& bias, bool centers) {
  constexpr size_t kWidth = 12;
  Floats y(x.size());
  for (size_t row = 0; row < x.size(); row += kWidth) {
    double mean = 0, squares = 0;
    for (size_t i = 0; centers && i < kWidth; ++i) mean += x[row + i] / kWidth;
    for (size_t i = 0; i < kWidth; ++i) squares += (x[row + i] - mean) * (x[row + i] - mean);
    for (size_t i = 0; i < kWidth; ++i) {
      y[row + i] =
          static_cast<float>((x[row + i] - mean) / sqrt(squares / kWidth + 1e-5)) * weight[i] + bias[i];
    }
  }
  return Tensor({2, 3, 4}, y);
}

bool norms_pass() {
  Random random(4);
  const Floats x = draw(random, 24), other = draw(random, 24), weight = draw(random, 12),
               bias = draw(random, 12);
  Floats sum(24);
  for (size_t i = 0; i < 24; ++i) sum[i] = x[i] + other[i];
  const Tensor a({2, 3, 4}, x), b({2, 3, 4}, other);
  const TestConstants constants = arrays({{"w", Tensor({3, 4}, weight)}, {"b", Tensor({3, 4}, bias)}});
  const std::string layer = R"("op": "layer_norm", "epsilon": 1e-5, "axes": 2)";
  const std::string rms = R"("op": "rms_norm", "epsilon": 1e-5, "axes": 2)", weights = R"(, "weight": "w")";
  const std::string both = weights + R"(, "bias": "b")";
  const Floats ones(12, 1), zeros(12);
  bool ok =
      is_near("layer_norm", run_node(layer + both, {a}, constants), normalize(x, weight, bias, true), 1e-5f);
  ok &= is_near("layer_norm, plain", run_node(layer, {a}), normalize(x, ones, zeros, true), 1e-5f);
  ok &= is_near("layer_norm of a sum", run_node(layer + both, {a, b}, constants),
                normalize(sum, weight, bias, true), 1e-5f);
  ok &=
      is_near("rms_norm", run_node(rms + weights, {a}, constants), normalize(x, weight, zeros, false), 1e-5f);
  ok &= is_near("rms_norm of a sum", run_node(rms, {a, b}), normalize(sum, ones, zeros, false), 1e-5f);
  ok &= refuses("FER-NAT-003", R"("op": "layer_norm", "epsilon": -1)", {a});
  ok &= refuses("FER-NAT-003", R"("op": "layer_norm", "epsilon": 1, "axes": 0)", {a});
  ok &= refuses("FER-NAT-003", R"("op": "layer_norm", "epsilon": 1, "axes": 9)", {a});
  ok &= refuses("FER-NAT-003", R"("op": "layer_norm", "epsilon": 1, "weight": "w")", {a}, constants);
  ok &= refuses("FER-NAT-004", layer + weights, {Tensor({4, 3}, Floats(12))}, constants);
  ok &= refuses("FER-NAT-004", layer, {Tensor({12}, Floats(12))});
  ok &= refuses("FER-NAT-004", layer, {a, Tensor({3, 4}, Floats(12))});
  ok &= refuses("", layer + weights, {Tensor({0, 3, 4}, Floats())}, constants);
  return ok;
}

bool rows_pass() {
  Random random(5);
  const Floats x = draw(random, 60), factor = draw(random, 60);
  Floats soft(60), gated(60);
  for (size_t i = 0; i < 60; ++i) {
    double total = 0;
    for (size_t k = 0; k < 20; ++k) total += exp(x[i / 20 * 20 + k]);
    soft[i] = static_cast<float>(exp(x[i]) / total);
    gated[i] = silu(x[i]) * factor[i];
  }
  const Tensor input({3, 20}, x);
  const std::string softmax = R"("op": "softmax")", silus = R"("op": "activate", "kind": "silu")";
  bool ok = is_near("softmax", run_node(softmax, {input}), Tensor({3, 20}, soft), 1e-6f);
  ok &= is_near("gate", run_node(silus, {input, Tensor({3, 20}, factor)}), Tensor({3, 20}, gated), 1e-5f);
  for (const char* kind : {"relu", "relu6", "hard_swish", "gelu", "gelu_tanh", "sigmoid", "tanh", "exp"})
    ok &= refuses("", R"("op": "activate", "kind": ")" + std::string(kind) + "\"", {input});
  ok &= refuses("", silus, {Tensor({}, Floats(1))});
  ok &= refuses("FER-NAT-003", R"("op": "activate", "kind": "sin")", {input});
  ok &= refuses("FER-NAT-004", silus, {Tensor({1}, std::vector<int32_t>(1))});
  ok &= refuses("FER-NAT-004", silus, {input, Tensor({60}, x)});
  ok &= refuses("FER-NAT-004", softmax, {Tensor({}, Floats(1))});
  ok &= refuses("FER-NAT-004", softmax, {input, input});
  return ok;
}

// Sizes of an attention, and q, k and v as [batch][head][token][channel].
struct Heads {
  size_t batch, heads, kv_heads, queries, keys, width;
  Floats q, k, v;
  float scale = 0.3f;
  bool causal = false;
  std::function<float(size_t b, size_t h, size_t q, size_t k)> mask;  // added

  Heads(Random& random, size_t h, size_t kv, size_t m, size_t n)
      : batch(2), heads(h), kv_heads(kv), queries(m), keys(n), width(8) {
    q = draw(random, batch * heads * queries * width);
    k = draw(random, batch * kv_heads * keys * width);
    v = draw(random, k.size());
  }

  // [batch][head][query][channel]
  Floats attend() const {
    Floats out(q.size());
    for (size_t row = 0; row < q.size() / width; ++row) {
      const size_t b = row / queries / heads, h = row / queries % heads, i = row % queries;
      const size_t kv = (b * kv_heads + h / (heads / kv_heads)) * keys * width;
      double total = 0;
      for (size_t j = 0; j < keys && !(causal && j > i + keys - queries); ++j) {
        double logit = mask ? mask(b, h, i, j) : 0;
        for (size_t c = 0; c < width; ++c) logit += scale * q[row * width + c] * k[kv + j * width + c];
        const double weight = exp(logit);
        total += weight;
        for (size_t c = 0; c < width; ++c)
          out[row * width + c] += static_cast<float>(weight * v[kv + j * width + c]);
      }
      for (size_t c = 0; total != 0 && c < width; ++c) out[row * width + c] /= static_cast<float>(total);
    }
    return out;
  }

  std::string attributes(const char* layout, bool masked) const {
    return R"("op": "attention", "scale": 0.3, "heads": )" + std::to_string(heads) + R"(, "kv_heads": )" +
           std::to_string(kv_heads) + R"(, "layout": ")" + layout + R"(", "mask": )" +
           (masked ? "true" : "false") + R"(, "causal": )" + (causal ? "true" : "false");
  }
};

// [batch][head][token][channel] as [batch][token][head][channel].
Floats turn(const Floats& x, size_t heads, size_t tokens, size_t width) {
  Floats turned(x.size());
  for (size_t i = 0; i < x.size() / width; ++i) {
    const size_t b = i / tokens / heads, h = i / tokens % heads, t = i % tokens;
    for (size_t c = 0; c < width; ++c) turned[((b * tokens + t) * heads + h) * width + c] = x[i * width + c];
  }
  return turned;
}

// All layouts that can hold it, on one thread and two.
bool attention_matches(const char* what, const Heads& a, const Tensor* mask) {
  const Floats want = a.attend();
  const size_t kv = a.kv_heads, w = a.width;
  const Floats q = turn(a.q, a.heads, a.queries, w), k = turn(a.k, kv, a.keys, w),
               v = turn(a.v, kv, a.keys, w);
  const Tensor rows({2, a.queries, a.heads * w}, turn(want, a.heads, a.queries, w));
  const auto run = [&](const char* layout, std::vector<Tensor> inputs, const Tensor& expected) {
    if (mask) inputs.push_back(*mask);
    bool ok = true;
    for (const size_t threads : {1, 2})
      ok &= is_near(what, run_node(a.attributes(layout, mask), inputs, {}, threads), expected, 1e-5f);
    return ok;
  };
  bool ok = run("bhsd",
                {Tensor({2, a.heads, a.queries, w}, a.q), Tensor({2, kv, a.keys, w}, a.k),
                 Tensor({2, kv, a.keys, w}, a.v)},
                Tensor({2, a.heads, a.queries, w}, want));
  ok &= run("bshd",
            {Tensor({2, a.queries, a.heads * w}, q), Tensor({2, a.keys, kv * w}, k),
             Tensor({2, a.keys, kv * w}, v)},
            rows);
  ok &= run(
      "bshd",
      {Tensor({2, a.queries, a.heads, w}, q), Tensor({2, a.keys, kv, w}, k), Tensor({2, a.keys, kv, w}, v)},
      Tensor({2, a.queries, a.heads, w}, turn(want, a.heads, a.queries, w)));
  if (a.queries != a.keys) return ok;
  Floats all;
  for (size_t token = 0; token < 2 * a.queries; ++token) {
    for (const auto& [part, heads] : {std::pair(&q, a.heads), std::pair(&k, kv), std::pair(&v, kv)}) {
      const auto begin = part->begin() + static_cast<long>(token * heads * w);
      all.insert(all.end(), begin, begin + static_cast<long>(heads * w));
    }
  }
  return ok & run("qkv", {Tensor({2, a.queries, (a.heads + 2 * kv) * w}, all)}, rows);
}

// Padding behind the keys of the second batch item, and a mask of all axes.
bool masks_pass(Heads a) {
  Random random(6);
  std::vector<uint8_t> padding(2 * a.keys, 1), full(2 * a.heads * a.queries * a.keys);
  for (size_t j = 0; j < 3; ++j) padding[2 * a.keys - 1 - j] = 0;
  for (uint8_t& visible : full) visible = !random.chance(3);
  std::fill_n(full.begin(), a.keys, uint8_t{0});  // a query that sees nothing
  const Floats added = draw(random, a.queries * a.keys);
  a.mask = [&](size_t b, size_t, size_t, size_t j) { return padding[b * a.keys + j] ? 0 : -HUGE_VALF; };
  const Tensor keys({2, 1, 1, a.keys}, padding, Dtype::kBool);
  bool ok = attention_matches("attention with padding", a, &keys);
  a.mask = [&](size_t b, size_t h, size_t i, size_t j) {
    return full[((b * a.heads + h) * a.queries + i) * a.keys + j] ? 0 : -HUGE_VALF;
  };
  const Tensor all({2, a.heads, a.queries, a.keys}, full, Dtype::kBool);
  ok &= attention_matches("attention with a mask", a, &all);
  a.mask = [&](size_t, size_t, size_t i, size_t j) { return added[i * a.keys + j]; };
  const Tensor bias({1, 1, a.queries, a.keys}, added);
  ok &= attention_matches("attention with a bias", a, &bias);
  const float lowest = a.causal ? -HUGE_VALF : -FLT_MAX;
  const auto hides = [&](size_t j) { return j < 2 || j + 1 == a.keys; };
  Floats ends(a.keys);
  for (size_t j = 0; j < a.keys; ++j) ends[j] = hides(j) ? lowest : 0;
  a.mask = [&](size_t, size_t, size_t, size_t j) { return hides(j) ? -HUGE_VALF : 0; };
  const Tensor both({1, 1, 1, a.keys}, ends);
  ok &= attention_matches("attention with padding at both ends", a, &both);
  a.mask = nullptr;
  const Tensor ones({1, 1, 1, a.keys}, std::vector<uint8_t>(a.keys, 1), Dtype::kBool);
  const Tensor zeros({2, 1, 1, a.keys}, Floats(2 * a.keys));
  return ok & attention_matches("attention, nothing hidden", a, &ones) &
         attention_matches("attention, zeros added", a, &zeros);
}

// int8 products come near what float32 ones give, with padding and numbers added to keys; where there is no
// kernel for them, or the queries are few, the results are those of float32.
bool codes_pass() {
  Random random(9);
  bool ok = true;
  for (const bool causal : {false, true}) {
    Heads a(random, 4, 2, 40, 40);
    a.causal = causal;
    const std::string products = R"(, "products": "int8")";
    const std::vector<Tensor> rows = {
        Tensor({2, a.queries, a.heads * a.width}, turn(a.q, a.heads, a.queries, a.width)),
        Tensor({2, a.keys, a.kv_heads * a.width}, turn(a.k, a.kv_heads, a.keys, a.width)),
        Tensor({2, a.keys, a.kv_heads * a.width}, turn(a.v, a.kv_heads, a.keys, a.width))};
    const auto wanted = [&] {
      return Tensor({2, a.queries, a.heads * a.width}, turn(a.attend(), a.heads, a.queries, a.width));
    };
    for (const size_t threads : {1, 2})
      ok &= is_near("int8 attention", run_node(a.attributes("bshd", false) + products, rows, {}, threads),
                    wanted(), 0.04f);
    Floats added(2 * a.keys);
    for (float& each : added) each = random.chance(4) ? -HUGE_VALF : random.uniform(-1, 1);
    added[0] = added[a.keys] = 0;
    a.mask = [&](size_t b, size_t, size_t, size_t j) { return added[b * a.keys + j]; };
    std::vector<Tensor> masked = rows;
    masked.emplace_back(std::vector<size_t>{2, 1, 1, a.keys}, added);
    ok &= is_near("int8 attention with a mask",
                  run_node(a.attributes("bshd", true) + products, masked, {}, 2), wanted(), 0.04f);
    masked.back() = Tensor({1, 1, a.queries, a.keys}, Floats(a.queries * a.keys));
    ok &= refuses("FER-NAT-004", a.attributes("bshd", true) + products, masked);
    ok &= refuses("FER-NAT-003", a.attributes("bshd", false) + R"(, "products": "int4")", rows);
  }
  return ok;
}

bool attention_passes() {
  Random random(7);
  Heads many(random, 4, 2, 40, 40), few(random, 2, 2, 3, 70), causal(random, 4, 4, 17, 17);
  causal.causal = true;
  return codes_pass() & attention_matches("attention", many, nullptr) &
         attention_matches("attention, few", few, nullptr) &
         attention_matches("attention, causal", causal, nullptr) & masks_pass(many) & masks_pass(few) &
         masks_pass(causal);
}

bool attention_refuses() {
  Random random(8);
  const Heads a(random, 4, 2, 5, 5);
  const auto zeros = [](std::vector<size_t> dims) {
    size_t count = 1;
    for (const size_t dim : dims) count *= dim;
    return Tensor(dims, Floats(count));
  };
  const std::string bshd = a.attributes("bshd", false), masked = a.attributes("bshd", true);
  const std::string bhsd = a.attributes("bhsd", false), qkv = a.attributes("qkv", false);
  const Tensor q = zeros({2, 5, 32}), k = zeros({2, 5, 16});
  bool ok = refuses("", bshd, {q, k, k}) & refuses("", qkv, {zeros({2, 5, 64})});
  ok &= refuses("", bshd, {zeros({2, 0, 32}), k, k}) &
        refuses("", bshd, {q, zeros({2, 0, 16}), zeros({2, 0, 16})});
  ok &= refuses("", qkv, {zeros({0, 5, 64})}) & refuses("", qkv, {zeros({2, 5, 0})});
  for (const char* bad :
       {R"("heads": 0)", R"("heads": 4, "kv_heads": 3)", R"("heads": 99999999999, "kv_heads": 1)",
        R"("heads": 4, "kv_heads": 2, "scale": 1e39)"})
    ok &= refuses("FER-NAT-003", R"("op": "attention", "layout": "bshd", )" + std::string(bad), {q, k, k});
  const std::vector<std::vector<Tensor>> misfits = {{q, k},
                                                    {q, k, q},
                                                    {q, q, q},
                                                    {zeros({1, 5, 32}), k, k},
                                                    {zeros({2, 5, 30}), k, k},
                                                    {zeros({5, 32}), k, k},
                                                    {zeros({2, 5, 4, 8}), k, k},
                                                    {q, k, k, k},
                                                    {Tensor({2, 5, 32}, std::vector<int32_t>(320)), k, k}};
  for (const auto& inputs : misfits) ok &= refuses("FER-NAT-004", bshd, inputs);
  ok &= refuses("FER-NAT-004", bhsd, {q, k, k}) & refuses("FER-NAT-004", qkv, {zeros({2, 5, 63})});
  for (const Tensor& mask : {zeros({5, 5}), zeros({1, 1, 4, 5}), zeros({3, 1, 1, 5}), zeros({1, 1, 1, 6}),
                             Tensor({1, 1, 1, 5}, std::vector<int64_t>(5))})
    ok &= refuses("FER-NAT-004", masked, {q, k, k, mask});
  return ok & refuses("FER-NAT-004", masked, {q, k, k});
}

// Sizes of a convolution or pooling.
struct Window {
  size_t height, width, kernel_height, kernel_width, stride, dilation, top, left, bottom, right;

  size_t rows() const { return (height + top + bottom - (kernel_height - 1) * dilation - 1) / stride + 1; }
  size_t columns() const { return (width + left + right - (kernel_width - 1) * dilation - 1) / stride + 1; }
  std::string attributes() const {
    const auto pair = [](size_t a, size_t b) { return std::to_string(a) + ", " + std::to_string(b); };
    return R"("stride": [)" + pair(stride, stride) + R"(], "dilation": [)" + pair(dilation, dilation) +
           R"(], "padding": [)" + pair(top, left) + ", " + pair(bottom, right) + "]";
  }
  // Calls body(output, input, tap) with the numbers of pixels of two images, for all taps within them; output
  // by output.
  template <typename Body>
  void for_each(const Body& body) const {
    for (size_t out = 0; out < 2 * rows() * columns(); ++out) {
      const size_t image = out / columns() / rows(), row = out / columns() % rows(), column = out % columns();
      for (size_t tap = 0; tap < kernel_height * kernel_width; ++tap) {
        const size_t y = row * stride + tap / kernel_width * dilation - top;
        const size_t x = column * stride + tap % kernel_width * dilation - left;
        if (y < height && x < width) body(out, (image * height + y) * width + x, tap);
      }
    }
  }
};

Tensor convolve(const Window& w, const Floats& x, const Floats& weight, const Floats& bias,
                const Floats& residual, size_t channels, size_t groups) {
  const size_t out = bias.size(), in = channels / groups, taps = w.kernel_height * w.kernel_width;
  Floats y(2 * w.rows() * w.columns() * out);
  for (size_t i = 0; i < y.size(); ++i) y[i] = bias[i % out];
  w.for_each([&](size_t to, size_t from, size_t tap) {
    for (size_t o = 0; o < out; ++o) {
      const float* pixel = x.data() + from * channels + o / (out / groups) * in;
      for (size_t c = 0; c < in; ++c) y[to * out + o] += pixel[c] * weight[(o * taps + tap) * in + c];
    }
  });
  for (size_t i = 0; i < y.size(); ++i) y[i] = fmaxf(y[i], 0) + residual[i];
  return Tensor({2, w.rows(), w.columns(), out}, y);
}

std::vector<int8_t> quantize(const Tensor& x, float scale, int zero) {
  std::vector<int8_t> codes(x.count());
  for (size_t i = 0; i < codes.size(); ++i) {
    const float code = nearbyintf(x.as<float>()[i] / scale) + static_cast<float>(zero);
    codes[i] = static_cast<int8_t>(fminf(fmaxf(code, -128), 127));
  }
  return codes;
}

// A layer of static range reads codes as it reads the numbers that they stand for, and writes them.
bool codes_match(const char* what, const std::string& node, const std::vector<Tensor>& inputs,
                 const TestConstants& constants, size_t threads) {
  const Tensor floats = run_node(node, inputs, constants, threads);
  std::vector<size_t> dims(inputs[0].spec.shape.dims, inputs[0].spec.shape.dims + 4);
  const std::vector<Tensor> coded = {Tensor(dims, quantize(inputs[0], 0.03f, 3)), inputs[1]};
  bool ok = is_near(what, run_node(node, coded, constants, threads), floats, 1e-5f);
  const std::vector<int8_t> wanted = quantize(floats, 0.05f, -7);
  for (const auto& given : {inputs, coded}) {
    const Tensor got =
        run_node(node + R"(, "output_scale": 0.05, "output_zero": -7)", given, constants, threads);
    bool same = got.spec.dtype == Dtype::kInt8 && got.spec.shape == floats.spec.shape;
    for (size_t i = 0; same && i < wanted.size(); ++i) same = abs(got.as<int8_t>()[i] - wanted[i]) <= 1;
    if (!same) printf("%s: other codes come out\n", what);
    ok &= same;
  }
  return ok;
}

bool conv_matches(const char* what, const Window& w, size_t channels, size_t out, size_t groups) {
  Random random(9);
  const size_t in = channels / groups, taps = w.kernel_height * w.kernel_width;
  const Floats x = draw(random, 2 * w.height * w.width * channels), bias = draw(random, out);
  const Floats residual = draw(random, 2 * w.rows() * w.columns() * out);
  std::vector<int8_t> codes(out * taps * in);
  Floats weight(codes.size()), scales(out);
  for (float& scale : scales) scale = random.uniform(0.001f, 0.003f);
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<int8_t>(random.integer(-128, 127));
    weight[i] = static_cast<float>(codes[i]) * scales[i / (taps * in)];
  }
  const std::vector<size_t> shape = {out, w.kernel_height, w.kernel_width, in};
  const TestConstants constants = arrays({{"w", Tensor(shape, weight)},
                                          {"c", Tensor(shape, codes)},
                                          {"s", Tensor({out}, scales)},
                                          {"b", Tensor({out}, bias)}});
  const std::vector<Tensor> inputs = {Tensor({2, w.height, w.width, channels}, x),
                                      Tensor({2, w.rows(), w.columns(), out}, residual)};
  const Tensor want = convolve(w, x, weight, bias, residual, channels, groups);
  const std::string node =
      R"("op": "conv", "bias": "b", "activation": "relu", "residual": true, "groups": )" +
      std::to_string(groups) + ", " + w.attributes();
  const std::string affine = node + R"(, "kind": "affine", "codes": "c", "scales": "s", "input": )";
  bool ok = true;
  for (const size_t threads : {1, 2}) {
    ok &= is_near(what, run_node(node + R"(, "kind": "float32", "weight": "w")", inputs, constants, threads),
                  want, 1e-4f);
    ok &= is_near(what, run_node(affine + R"("float32")", inputs, constants, threads), want, 1e-4f);
    ok &= is_near(what, run_node(affine + R"("dynamic8")", inputs, constants, threads), want, 0.2f);
    ok &= is_near(
        what,
        run_node(affine + R"("static8", "input_scale": 0.03, "input_zero": 3)", inputs, constants, threads),
        want, 0.25f);
    ok &= codes_match(what, affine + R"("static8", "input_scale": 0.03, "input_zero": 3)", inputs, constants,
                      threads);
  }
  return ok;
}

// An image that holds a NaN is NaN, and the others are not.
bool nan_stays_in_its_image() {
  const TestConstants constants =
      arrays({{"c", Tensor({2, 1, 1, 1}, std::vector<int8_t>{1, 2})}, {"s", Tensor({2}, Floats(2, 1))}});
  Floats x(8, 1);
  x[1] = NAN;
  const std::string node =
      R"("op": "conv", "kind": "affine", "codes": "c", "scales": "s", "groups": 2, "stride": [1, 1], )"
      R"("padding": [0, 0, 0, 0], "input": )";
  bool ok = true;
  for (const char* input : {R"("dynamic8")", R"("static8", "input_scale": 0.01, "input_zero": 0)"}) {
    const Tensor y = run_node(node + input, {Tensor({2, 1, 2, 2}, x)}, constants);
    for (size_t i = 0; i < 4; ++i)
      ok &= isnan(y.as<float>()[i]) && fabsf(y.as<float>()[4 + i] - (i % 2 ? 2.0f : 1.0f)) < 0.02f;
  }
  if (!ok) printf("depthwise conv: a NaN is lost, or spreads\n");
  return ok;
}

bool pooling_matches(const Window& w, bool counts_padding) {
  Random random(10);
  constexpr size_t kChannels = 5;
  const Floats x = draw(random, 2 * w.height * w.width * kChannels);
  const size_t outputs = 2 * w.rows() * w.columns();
  Floats largest(outputs * kChannels, -HUGE_VALF), mean(outputs * kChannels), taps(outputs);
  w.for_each([&](size_t to, size_t from, size_t) {
    ++taps[to];
    for (size_t c = 0; c < kChannels; ++c) {
      largest[to * kChannels + c] = fmaxf(largest[to * kChannels + c], x[from * kChannels + c]);
      mean[to * kChannels + c] += x[from * kChannels + c];
    }
  });
  const auto all = static_cast<float>(w.kernel_height * w.kernel_width);
  for (size_t i = 0; i < mean.size(); ++i) mean[i] /= counts_padding ? all : taps[i / kChannels];
  const std::string node = R"("op": "pooling", "kernel": [)" + std::to_string(w.kernel_height) + ", " +
                           std::to_string(w.kernel_width) + R"(], "count_padding": )" +
                           (counts_padding ? "true, " : "false, ") + w.attributes();
  const Tensor input({2, w.height, w.width, kChannels}, x);
  const std::vector<size_t> shape = {2, w.rows(), w.columns(), kChannels};
  return is_near("max pooling", run_node(node + R"(, "fn": "max")", {input}), Tensor(shape, largest), 0) &
         is_near("mean pooling", run_node(node + R"(, "fn": "mean")", {input}), Tensor(shape, mean), 1e-5f);
}

bool images_pass() {
  const Window point = {7, 6, 1, 1, 1, 1, 0, 0, 0, 0}, plain = {7, 6, 3, 3, 1, 1, 1, 1, 1, 1};
  const Window odd = {9, 8, 3, 2, 2, 2, 2, 1, 0, 3}, overlapping = {9, 8, 3, 3, 2, 1, 1, 1, 1, 1};
  return conv_matches("conv 1x1", point, 8, 5, 1) & conv_matches("conv 3x3", plain, 4, 20, 1) &
         conv_matches("conv of odd sizes", odd, 3, 7, 1) & conv_matches("conv in groups", plain, 8, 4, 2) &
         conv_matches("depthwise conv", overlapping, 12, 12, 12) &
         conv_matches("depthwise conv of odd sizes", odd, 5, 5, 5) & nan_stays_in_its_image() &
         pooling_matches(overlapping, false) & pooling_matches(overlapping, true);
}

bool images_refuse() {
  const TestConstants constants =
      arrays({{"w", Tensor({4, 3, 3, 2}, Floats(72))}, {"b", Tensor({3}, Floats(3))}});
  const Tensor x({1, 5, 5, 4}, Floats(100));
  const std::string conv =
      R"("op": "conv", "kind": "float32", "weight": "w", "groups": 2, "dilation": [1, 1], )";
  const std::string pool = R"("op": "pooling", "fn": "mean", )",
                    window = R"("stride": [1, 1], "padding": [0, 0, 0, 0])";
  bool ok =
      refuses("", conv + window, {x}, constants) & refuses("", pool + R"("kernel": [2, 2], )" + window, {x});
  ok &= refuses("", conv + window, {Tensor({0, 5, 5, 4}, Floats())}, constants);
  for (const char* bad :
       {R"("stride": [0, 1], "padding": [0, 0, 0, 0])", R"("stride": [1], "padding": [0, 0, 0, 0])",
        R"("stride": [1, 1], "padding": [0, 0])", R"("stride": [1, 1], "padding": [0, 0, -1, 0])",
        R"("stride": [1, 1], "padding": [0, 0, 0, 99999999999])"}) {
    ok &= refuses("FER-NAT-003", conv + bad, {x}, constants);
    ok &= refuses("FER-NAT-003", pool + R"("kernel": [2, 2], )" + bad, {x});
  }
  for (const char* bad : {R"(, "bias": "b")", R"(, "activation": "tan")"})
    ok &= refuses("FER-NAT-003", conv + window + bad, {x}, constants);
  const TestConstants coded =
      arrays({{"c", Tensor({4, 3, 3, 2}, std::vector<int8_t>(72, 1))}, {"s", Tensor({4}, Floats(4, 1))}});
  const std::string codes =
      R"("op": "conv", "kind": "affine", "codes": "c", "scales": "s", "groups": 2, )" + window;
  const std::string of_range = codes + R"(, "input": "static8", "input_scale": 0.1, "input_zero": 0)";
  const Tensor bytes({1, 5, 5, 4}, std::vector<int8_t>(100));
  ok &= refuses("", of_range + R"(, "output_scale": 0.1, "output_zero": 0)", {bytes}, coded);
  for (const char* bad : {R"(, "output_scale": 0, "output_zero": 0)", R"(, "output_scale": 0.1)",
                          R"(, "output_scale": 0.1, "output_zero": 128)"})
    ok &= refuses("FER-NAT-003", of_range + bad, {bytes}, coded);
  ok &= refuses("FER-NAT-003", codes + R"(, "output_scale": 0.1, "output_zero": 0)", {x}, coded);
  ok &= refuses("FER-NAT-004", codes, {bytes}, coded) &
        refuses("FER-NAT-004", conv + window, {bytes}, constants);
  ok &= refuses("FER-NAT-004", pool + R"("kernel": [2, 2], )" + window, {bytes});
  ok &= refuses("FER-NAT-003", R"("op": "conv", "kind": "float32", "weight": "w", "groups": 3, )" + window,
                {x}, constants);
  ok &= refuses("FER-NAT-003", pool + R"("kernel": [2, 2], "dilation": [2, 1], )" + window, {x});
  ok &= refuses("FER-NAT-003", R"("op": "conv", "kind": "lookup", "bits": 4, "codes": "w", )" + window, {x},
                constants);
  ok &= refuses("FER-NAT-003", R"("op": "pooling", "fn": "min", "kernel": [2, 2], )" + window, {x});
  for (const auto& dims :
       std::vector<std::vector<size_t>>{{1, 5, 5, 3}, {1, 2, 5, 4}, {5, 5, 4}, {1, 5, 0, 4}}) {
    size_t count = 1;
    for (const size_t dim : dims) count *= dim;
    ok &= refuses("FER-NAT-004", conv + window, {Tensor(dims, Floats(count))}, constants);
  }
  ok &= refuses("FER-NAT-004", conv + R"("residual": true, )" + window, {x, x}, constants);
  ok &= refuses("FER-NAT-004", pool + R"("kernel": [6, 1], )" + window, {x});
  return ok &
         refuses(
             "FER-NAT-005",
             pool +
                 R"("kernel": [1, 1], "stride": [1, 1], "padding": [2147483647, 2147483647, 2147483647, 2147483647])",
             {x});
}

// Keys of [2][heads][tokens][width] as the layouts have them, and the plan that each gives.
bool token_match_passes() {
  Random random(11);
  const size_t heads = 2, tokens = 9, width = 5, all = heads * width;
  const Tensor bhsd({2, heads, tokens, width}, draw(random, 2 * heads * tokens * width));
  Floats rows(bhsd.count()), joined(3 * bhsd.count(), 7.0f);
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t x = i % width, t = i / width % tokens, h = i / width / tokens % heads,
                 b = i / width / tokens / heads;
    const size_t row = b * tokens + t, column = h * width + x;
    rows[row * all + column] = joined[row * 3 * all + all + column] = bhsd.as<float>()[i];
  }
  const std::string op = R"("op": "token_match", "heads": 2, "kv_heads": 2, "protected": 1, "count": 3, )";
  const Tensor plan = run_node(op + R"("layout": "bhsd")", {bhsd});
  const int32_t* to = plan.as<int32_t>();
  bool ok = plan.spec.dtype == Dtype::kInt32 && plan.spec.shape == shape_of({2, tokens}) && to[0] == 0;
  for (size_t b = 0; b < 2; ++b) ok &= *std::max_element(to + b * tokens, to + (b + 1) * tokens) == 5;
  for (const size_t threads : {1, 2}) {
    ok &= run_node(op + R"("layout": "bshd")", {Tensor({2, tokens, all}, rows)}, {}, threads) == plan;
    ok &=
        run_node(op + R"("layout": "bshd")", {Tensor({2, tokens, heads, width}, rows)}, {}, threads) == plan;
    ok &= run_node(op + R"("layout": "qkv")", {Tensor({2, tokens, 3 * all}, joined)}, {}, threads) == plan;
  }
  // Nothing to merge and nothing that is padded: every token keeps its place.
  const std::string at = op + R"("layout": "bhsd", )", sized = R"("sizes": true)",
                    counted = R"("counts": true)";
  const std::string padded = at + sized + ", " + counted;
  const Tensor ones({2, tokens}, Floats(2 * tokens, 1)), counts({2}, std::vector<int32_t>{0, 3});
  const Tensor by_row = run_node(padded, {bhsd, ones, counts});
  for (size_t t = 0; t < tokens; ++t) ok &= by_row.as<int32_t>()[t] == static_cast<int32_t>(t);
  ok &= !memcmp(by_row.as<int32_t>() + tokens, to + tokens, tokens * sizeof(int32_t));
  ok &= run_node(at + counted, {bhsd, counts}) == by_row && run_node(at + sized, {bhsd, ones}) == plan;
  // How many are left, of rows the last of which has two tokens of padding.
  Floats some(2 * tokens, 1);
  some[2 * tokens - 1] = some[2 * tokens - 2] = 0;
  std::string text = graph_of(padded + R"(, "results": 2)", {bhsd, ones, counts});
  text.insert(text.rfind(']', text.rfind(']') - 1), R"(, {"name": "left", "value": 4})");
  const std::vector<Tensor> both = run_graph(text, {bhsd, Tensor({2, tokens}, some), counts});
  ok &= both[1] == Tensor({2}, std::vector<int32_t>{9, 4});
  if (!ok) printf("token_match: wrong\n");
  ok &= refuses("FER-NAT-003", op + R"("layout": "sbhd")", {bhsd});
  ok &= refuses("FER-NAT-003", R"("op": "token_match", "layout": "bhsd", "heads": 2, "kv_heads": 2)", {bhsd});
  ok &= refuses("FER-NAT-003", at + R"("results": 3)", {bhsd});
  ok &= refuses("FER-NAT-004", op + R"("layout": "bhsd")", {Tensor({2, tokens, all}, rows)});
  ok &= refuses("FER-NAT-004", op + R"("layout": "qkv")", {Tensor({2, tokens, all}, rows)});
  ok &= refuses("FER-NAT-004", op + R"("layout": "bhsd")", {bhsd, ones, counts});
  ok &= refuses("FER-NAT-004", padded, {bhsd, counts, ones}) &
        refuses("FER-NAT-004", at + counted, {bhsd, ones});
  const std::string bare =
      R"("op": "token_match", "heads": 2, "kv_heads": 2, "layout": "bhsd", "protected": )";
  ok &= refuses("FER-NAT-004", bare + "-1", {bhsd}) & refuses("", bare + "99", {bhsd});
  ok &= refuses("FER-NAT-004", bare + R"(0, "count": [0, 1, "-"])", {bhsd});
  ok &= refuses("FER-NAT-003", bare + R"(0, "count": [0, "tokens"])", {bhsd});
  ok &= refuses("FER-NAT-008", padded, {bhsd, ones, Tensor({2}, std::vector<int32_t>{-1, 0})});
  return ok & refuses("FER-NAT-008", padded, {bhsd, Tensor({2, tokens}, Floats(2 * tokens, NAN)), counts});
}

bool token_merge_passes() {
  const Tensor x({1, 3, 2}, Floats{1, 2, 3, 4, 5, 6}), plan({1, 3}, std::vector<int32_t>{0, 1, 0});
  const Tensor sizes({1, 3}, Floats{1, 2, 3});
  const auto text = [](const char* left, const char* more) {
    return std::string(R"({"entries": [{"name": "f", "dims": [], "inputs": [)") +
           R"({"name": "x", "dtype": "float32", "shape": [1, 3, 2]}, {"name": "p", "dtype": "int32", "shape": [1, 3]}, )" +
           R"({"name": "s", "dtype": "float32", "shape": [1, 3]}], "nodes": [{"op": "token_merge", "results": 2, "left": )" +
           left + R"(, "in": [0, 1)" + more +
           R"(]}], "outputs": [{"name": "y", "value": 3}, {"name": "n", "value": 4}], "updates": []}], "states": []})";
  };
  const std::vector<Tensor> plain = run_graph(text("2", ""), {x, plan, sizes});
  bool ok = is_near("token_merge", plain[0], Tensor({1, 2, 2}, Floats{3, 4, 3, 4}), 1e-6f);
  ok &= is_near("sizes of token_merge", plain[1], Tensor({1, 2}, Floats{2, 1}), 0);
  const std::vector<Tensor> weighted = run_graph(text("3", ", 2"), {x, plan, sizes});
  ok &= is_near("token_merge by size", weighted[0], Tensor({1, 3, 2}, Floats{4, 5, 3, 4, 0, 0}), 1e-6f);
  ok &= is_near("sizes that add up", weighted[1], Tensor({1, 3}, Floats{4, 2, 0}), 0);
  const std::string op = R"("op": "token_merge", "results": 2, "left": )";
  ok &= refuses("FER-NAT-003", R"("op": "token_merge", "left": 2)", {x, plan});
  ok &= refuses("FER-NAT-004", op + "0", {x, plan}) & refuses("FER-NAT-004", op + "2", {x, sizes});
  ok &= refuses("FER-NAT-004", op + "2", {x, Tensor({3}, std::vector<int32_t>(3))});
  ok &= refuses("FER-NAT-004", op + "2", {x, plan, plan}) & refuses("FER-NAT-008", op + "1", {x, plan});
  return ok & refuses("FER-NAT-008", op + "2", {x, Tensor({1, 3}, std::vector<int32_t>{0, -1, 0})});
}

}  // namespace

bool executor_kernels_pass() {
  return linear_passes() & linear_refuses() & embedding_passes() & norms_pass() & rows_pass() &
         attention_passes() & attention_refuses() & images_pass() & images_refuse() & token_match_passes() &
         token_merge_passes();
}

}  // namespace ferrule::tests
