// The executor's ops on tensors, against plain loops.
#include <math.h>

#include <algorithm>
#include <limits>

#include "tests/executor.h"

namespace ferrule::tests {
namespace {

using executor::Dtype;
using executor::Shape;
using Dims = std::vector<size_t>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = HUGE_VALF;

template <typename T>
Tensor draw_whole(Random& random, const Dims& dims, int64_t low, int64_t high, Dtype dtype = dtype_for<T>()) {
  std::vector<T> values(shape_of(dims).count());
  for (T& value : values) value = static_cast<T>(random.integer(low, high));
  return Tensor(dims, values, dtype);
}

Tensor draw_bool(Random& random, const Dims& dims) {
  return draw_whole<uint8_t>(random, dims, 0, 1, Dtype::kBool);
}

std::vector<size_t> index_of(const Shape& shape, size_t flat) {
  std::vector<size_t> index(shape.rank);
  for (size_t axis = shape.rank; axis-- > 0; flat /= shape[axis]) index[axis] = flat % shape[axis];
  return index;
}

// The place in `input` of what is broadcast to place `index`.
size_t broadcast_place(const Shape& input, const std::vector<size_t>& index) {
  size_t place = 0;
  for (size_t axis = 0; axis < input.rank; ++axis) {
    const size_t i = index[index.size() - input.rank + axis];
    place = place * input[axis] + (input[axis] == 1 ? 0 : i);
  }
  return place;
}

// Within 1e-6, or `relative`, of 1 or the wanted number; the same where both are whole.
bool close(double got, double want, double relative = 1e-6) {
  if (isnan(want) || isinf(want)) return isnan(want) ? isnan(got) : got == want;
  return fabs(got - want) <= relative * std::max(1.0, fabs(want));
}

template <typename T>
std::enable_if_t<std::is_integral_v<T>, bool> close(T got, T want) {
  return got == want;
}

std::string fn(const char* op, const char* name) {
  return R"("op": ")" + std::string(op) + R"(", "fn": ")" + name + "\"";
}

// Whether result[i] = want(a, b) for all that is broadcast.
template <typename T, typename R, typename Want>
bool matches(const std::string& node, const Tensor& a, const Tensor& b, Want want, size_t threads = 1) {
  const Tensor got = run_node(node, {a, b}, {}, threads);
  bool ok = true;
  for (size_t i = 0; i < got.count() && ok; ++i) {
    const std::vector<size_t> index = index_of(got.spec.shape, i);
    const T x = a.as<T>()[broadcast_place(a.spec.shape, index)];
    const T y = b.as<T>()[broadcast_place(b.spec.shape, index)];
    ok = close(got.as<R>()[i], static_cast<R>(want(x, y)));
  }
  return check(ok, node + " of " + a.spec.shape.text() + " and " + b.spec.shape.text());
}

const std::pair<Dims, Dims> kBroadcasts[] = {{{7, 33}, {7, 33}},
                                             {{5, 33}, {33}},
                                             {{2, 3, 17}, {3, 1}},
                                             {{2, 3, 17}, {2, 1, 1}},
                                             {{65}, {}},
                                             {{}, {65}},
                                             {{4, 1, 5}, {3, 1}},
                                             {{1}, {1}},
                                             {{0, 3}, {1, 3}},
                                             {{}, {}},
                                             {{2, 1, 4, 1, 3}, {3, 1, 5, 1}},
                                             {{1, 9}, {4, 1}}};

template <typename T>
T floor_quotient(T a, T b) {
  return static_cast<T>(floor(static_cast<double>(a) / static_cast<double>(b)));
}

bool binary_passes() {
  Random random(1);
  bool ok = true;
  for (const auto& [left, right] : kBroadcasts) {
    const Tensor a = draw(random, left), b = draw(random, right);
    ok &= matches<float, float>(fn("binary", "add"), a, b, [](float x, float y) { return x + y; });
    ok &= matches<float, float>(fn("binary", "sub"), a, b, [](float x, float y) { return x - y; });
    ok &= matches<float, float>(fn("binary", "mul"), a, b, [](float x, float y) { return x * y; });
    ok &= matches<float, float>(fn("binary", "div"), a, b, [](float x, float y) { return x / y; });
    ok &= matches<float, float>(fn("binary", "pow"), a, b, [](float x, float y) { return powf(x, y); });
    ok &= matches<float, float>(fn("binary", "max"), a, b, [](float x, float y) { return fmaxf(x, y); });
    ok &= matches<float, float>(fn("binary", "min"), a, b, [](float x, float y) { return fminf(x, y); });
    ok &= matches<float, float>(fn("binary", "floor_divide"), a, b, floor_quotient<float>);
    const Tensor c = draw_whole<int64_t>(random, left, -9, 9), d = draw_whole<int64_t>(random, right, 1, 4);
    using W = int64_t;
    ok &= matches<W, W>(fn("binary", "sub"), c, d, [](W x, W y) { return x - y; });
    ok &= matches<W, W>(fn("binary", "max"), c, d, [](W x, W y) { return std::max(x, y); });
    ok &= matches<W, W>(fn("binary", "floor_divide"), c, d, floor_quotient<W>);
    ok &=
        matches<W, W>(fn("binary", "remainder"), c, d, [](W x, W y) { return x - y * floor_quotient(x, y); });
    const Tensor e = draw_whole<int32_t>(random, left, -9, 9), f = draw_whole<int32_t>(random, right, -9, 9);
    ok &= matches<int32_t, int32_t>(fn("binary", "mul"), e, f, [](int32_t x, int32_t y) { return x * y; });
    ok &= matches<int32_t, uint8_t>(fn("compare", "le"), e, f, [](int32_t x, int32_t y) { return x <= y; });
    ok &= matches<float, uint8_t>(fn("compare", "gt"), a, b, [](float x, float y) { return x > y; });
    const Tensor p = draw_bool(random, left), q = draw_bool(random, right);
    using B = uint8_t;
    ok &= matches<B, B>(fn("logical", "and"), p, q, [](B x, B y) { return x && y; });
    ok &= matches<B, B>(fn("logical", "or"), p, q, [](B x, B y) { return x || y; });
    ok &= matches<B, B>(fn("logical", "xor"), p, q, [](B x, B y) { return x != y; });
  }
  const auto add = [](float x, float y) { return x + y; };
  ok &= matches<float, float>(fn("binary", "add"), draw(random, {37, 3001}), draw(random, {3001}), add, 3);
  ok &= matches<float, float>(fn("binary", "add"), draw(random, {211, 407}), draw(random, {211, 1}), add, 3);
  return ok;
}

template <typename T>
bool gives(const std::string& node, const std::vector<Tensor>& inputs, const Dims& dims,
           const std::vector<T>& want, Dtype dtype = dtype_for<T>()) {
  const Tensor got = run_node(node, inputs);
  bool ok = got.spec.dtype == dtype && got.spec.shape == shape_of(dims);
  for (size_t i = 0; i < want.size() && ok; ++i) ok = close(got.as<T>()[i], want[i]);
  return check(ok, node);
}

// Every fn of less, equal, greater and NaN; by a second input, by a number, by a number before the input.
bool comparisons_pass() {
  const struct {
    const char* name;
    std::vector<uint8_t> of_zero, reversed;
  } kRows[] = {{"eq", {0, 1, 0, 0}, {0, 1, 0, 0}}, {"ne", {1, 0, 1, 1}, {1, 0, 1, 1}},
               {"lt", {1, 0, 0, 0}, {0, 0, 1, 0}}, {"le", {1, 1, 0, 0}, {0, 1, 1, 0}},
               {"gt", {0, 0, 1, 0}, {1, 0, 0, 0}}, {"ge", {0, 1, 1, 0}, {1, 1, 0, 0}}};
  const Tensor x({4}, std::vector<float>{-1, 0, 1, kNan}), zero({}, std::vector<float>{0});
  bool ok = true;
  for (const auto& row : kRows) {
    const std::string node = fn("compare", row.name), value = node + R"(, "value": 0)";
    ok &= gives(node, {x, zero}, {4}, row.of_zero, Dtype::kBool);
    ok &= gives(node, {zero, x}, {4}, row.reversed, Dtype::kBool);
    ok &= gives(value, {x}, {4}, row.of_zero, Dtype::kBool);
    ok &= gives(value + R"(, "reversed": true)", {x}, {4}, row.reversed, Dtype::kBool);
  }
  return ok;
}

bool numbers_pass() {
  using F = std::vector<float>;
  using W = std::vector<int64_t>;
  using B = std::vector<uint8_t>;
  constexpr int64_t kLeast = INT64_MIN;
  const Tensor x({3}, F{-1, 2, 0.5f}), n({3}, W{-7, 7, 0}), least({1}, W{kLeast});
  const Tensor odd({2}, F{kNan, 1}), other({2}, F{1, kNan});
  return gives(fn("binary", "sub") + R"(, "value": 1)", {x}, {3}, F{-2, 1, -0.5f}) &&
         gives(fn("binary", "sub") + R"(, "value": 1, "reversed": true)", {x}, {3}, F{2, -1, 0.5f}) &&
         gives(fn("binary", "pow") + R"(, "value": 2)", {x}, {3}, F{1, 4, 0.25f}) &&
         gives(fn("binary", "pow") + R"(, "value": 3)", {x}, {3}, F{-1, 8, 0.125f}) &&
         gives(fn("binary", "pow") + R"(, "value": 2, "reversed": true)", {x}, {3}, F{0.5f, 4, sqrtf(2)}) &&
         gives(fn("binary", "remainder") + R"(, "value": -0.75)", {x}, {3}, F{-0.25f, -0.25f, -0.25f}) &&
         gives(fn("binary", "max"), {odd, other}, {2}, F{kNan, kNan}) &&
         gives(fn("binary", "floor_divide") + R"(, "value": 2)", {n}, {3}, W{-4, 3, 0}) &&
         gives(fn("binary", "remainder") + R"(, "value": 2)", {n}, {3}, W{1, 1, 0}) &&
         gives(fn("binary", "floor_divide") + R"(, "value": 0)", {n}, {3}, W{0, 0, 0}) &&
         gives(fn("binary", "floor_divide") + R"(, "value": -1)", {least}, {1}, W{kLeast}) &&
         gives(fn("binary", "remainder") + R"(, "value": -1)", {least}, {1}, W{0}) &&
         gives(fn("unary", "neg"), {least}, {1}, W{kLeast}) &&
         gives(fn("unary", "abs"), {n}, {3}, W{7, 7, 0}) &&
         gives(fn("compare", "lt") + R"(, "value": 0)", {n}, {3}, B{1, 0, 0}, Dtype::kBool) &&
         gives(fn("compare", "ne"), {odd, odd}, {2}, B{1, 0}, Dtype::kBool) &&
         gives(fn("logical", "not"), {Tensor({3}, B{0, 1, 7}, Dtype::kBool)}, {3}, B{1, 0, 0},
               Dtype::kBool) &&
         gives(R"("op": "fill", "shape": [2], "value": -1e999, "dtype": "float32")", {}, {2},
               F{-kInfinity, -kInfinity}) &&
         gives(R"("op": "fill", "shape": [1], "value": "-inf", "dtype": "float32")", {}, {1},
               F{-kInfinity}) &&
         gives(R"("op": "fill", "shape": [1], "value": true, "dtype": "bool")", {}, {1}, B{1},
               Dtype::kBool) &&
         gives(R"("op": "fill", "shape": [], "value": 9223372036854775807, "dtype": "int64")", {}, {},
               W{INT64_MAX}) &&
         gives(R"("op": "range", "start": 2, "end": 9, "step": 3)", {}, {3}, W{2, 5, 8}) &&
         gives(R"("op": "range", "start": 2, "end": -1, "step": -2, "dtype": "float32")", {}, {2}, F{2, 0}) &&
         gives(R"("op": "range", "start": 3, "end": 3, "dtype": "int32")", {}, {0}, std::vector<int32_t>{});
}

bool unary_passes() {
  Random random(2);
  const Tensor x = draw(random, {1003}, 3);
  const std::pair<const char*, double (*)(double)> functions[] = {
      {"neg", [](double v) { return -v; }},
      {"abs", fabs},
      {"exp", exp},
      {"log", log},
      {"sqrt", sqrt},
      {"rsqrt", [](double v) { return 1 / sqrt(v); }},
      {"reciprocal", [](double v) { return 1 / v; }},
      {"sin", sin},
      {"cos", cos},
      {"tanh", tanh},
      {"sigmoid", [](double v) { return 1 / (1 + exp(-v)); }},
      {"erf", erf},
      {"floor", floor},
      {"ceil", ceil},
      {"round", nearbyint},
      {"sign", [](double v) { return static_cast<double>((v > 0) - (v < 0)); }}};
  bool ok = gives(fn("unary", "round"), {Tensor({4}, std::vector<float>{0.5f, 1.5f, -2.5f, 2.6f})}, {4},
                  std::vector<float>{0, 2, -2, 3});
  for (const auto& [name, function] : functions) {
    const Tensor got = run_node(fn("unary", name), {x});
    bool same = true;
    for (size_t i = 0; i < x.count() && same; ++i)
      same = close(got.as<float>()[i], function(static_cast<double>(x.as<float>()[i])), 1e-6);
    ok &= check(same, name);
  }
  return ok;
}

bool cast_passes() {
  using F = std::vector<float>;
  const auto to = [](const char* dtype) { return R"("op": "cast", "dtype": ")" + std::string(dtype) + "\""; };
  const Tensor x({6}, F{-1.9f, 2.9f, 1e30f, -1e30f, kNan, 0});
  const Tensor n({3}, std::vector<int64_t>{-1, 257, int64_t{1} << 32});
  return gives(to("int64"), {x}, {6}, std::vector<int64_t>{-1, 2, INT64_MAX, INT64_MIN, 0, 0}) &&
         gives(to("int32"), {x}, {6}, std::vector<int32_t>{-1, 2, INT32_MAX, INT32_MIN, 0, 0}) &&
         gives(to("int8"), {x}, {6}, std::vector<int8_t>{-1, 2, 127, -128, 0, 0}) &&
         gives(to("uint8"), {x}, {6}, std::vector<uint8_t>{0, 2, 255, 0, 0, 0}) &&
         gives(to("bool"), {x}, {6}, std::vector<uint8_t>{1, 1, 1, 1, 1, 0}, Dtype::kBool) &&
         gives(to("float32"), {n}, {3}, F{-1, 257, 0x1p32f}) &&
         gives(to("int32"), {n}, {3}, std::vector<int32_t>{-1, 257, 0}) &&
         gives(to("uint8"), {n}, {3}, std::vector<uint8_t>{255, 1, 0}) &&
         gives(to("bool"), {n}, {3}, std::vector<uint8_t>{1, 1, 1}, Dtype::kBool) &&
         gives(to("float32"), {Tensor({2}, std::vector<uint8_t>{9, 0}, Dtype::kBool)}, {2}, F{1, 0});
}

bool where_passes() {
  Random random(3);
  bool ok = true;
  for (const auto& [left, right] : kBroadcasts) {
    for (const Dims& dims : {left, right, Dims{}}) {
      const Tensor c = draw_bool(random, dims), a = draw(random, left), b = draw(random, right);
      const Tensor got = run_node(R"("op": "where")", {c, a, b});
      bool same = true;
      for (size_t i = 0; i < got.count() && same; ++i) {
        const std::vector<size_t> index = index_of(got.spec.shape, i);
        const Tensor& chosen = c.as<uint8_t>()[broadcast_place(c.spec.shape, index)] ? a : b;
        same = got.as<float>()[i] == chosen.as<float>()[broadcast_place(chosen.spec.shape, index)];
      }
      ok &= check(same, "where of " + c.spec.shape.text() + a.spec.shape.text() + b.spec.shape.text());
    }
  }
  return ok;
}

std::string list_of(const std::vector<size_t>& numbers) { return shape_of(numbers).text(); }

template <typename T>
bool permutes(const Tensor& x, const std::vector<size_t>& axes, size_t threads) {
  const Tensor got = run_node(R"("op": "permute", "axes": )" + list_of(axes), {x}, {}, threads);
  bool same = got.count() == x.count();
  for (size_t i = 0; i < x.count() && same; ++i) {
    const std::vector<size_t> index = index_of(x.spec.shape, i);
    size_t place = 0;
    for (const size_t axis : axes) place = place * x.spec.shape[axis] + index[axis];
    same = got.as<T>()[place] == x.as<T>()[i];
  }
  return check(same, "permute " + list_of(axes) + " of " + x.spec.shape.text());
}

bool permute_passes() {
  Random random(4);
  bool ok = permutes<float>(draw(random, {3, 150, 180}), {0, 2, 1}, 3) &&
            permutes<float>(draw(random, {40, 6, 300}), {1, 0, 2}, 3) &&
            permutes<float>(draw(random, {}), {}, 1);
  for (int i = 0; i < 300; ++i) {
    Dims dims(static_cast<size_t>(random.integer(1, 5)));
    std::vector<size_t> axes(dims.size());
    for (size_t axis = 0; axis < dims.size(); ++axis) {
      dims[axis] = static_cast<size_t>(random.chance(4) ? random.integer(0, 1) : random.integer(2, 19));
      axes[axis] = axis;
      std::swap(axes[axis], axes[static_cast<size_t>(random.integer(0, static_cast<int64_t>(axis)))]);
    }
    ok &= i % 3 == 0   ? permutes<float>(draw(random, dims), axes, 1)
          : i % 3 == 1 ? permutes<uint8_t>(draw_bool(random, dims), axes, 1)
                       : permutes<int64_t>(draw_whole<int64_t>(random, dims, -99, 99), axes, 1);
  }
  return ok;
}

bool slices(Random& random) {
  Dims dims = {random.size(3), static_cast<size_t>(random.integer(0, 12)), random.size(4), random.size(3)};
  const size_t axis = static_cast<size_t>(random.integer(0, 3)), size = dims[axis];
  const int64_t start = random.integer(-15, 15), end = random.integer(-15, 15), step = random.integer(1, 3);
  const Tensor x = draw(random, dims);
  const std::string node = R"("op": "slice", "axis": )" + std::to_string(axis) + R"(, "start": )" +
                           std::to_string(start) + R"(, "end": )" + std::to_string(end) + R"(, "step": )" +
                           std::to_string(step);
  const Tensor got = run_node(node, {x});
  const auto clamped = [size](int64_t at) {
    const auto length = static_cast<int64_t>(size);
    return std::clamp<int64_t>(at < 0 ? at + length : at, 0, length);
  };
  std::vector<size_t> chosen;
  for (int64_t i = clamped(start); i < clamped(end); i += step) chosen.push_back(static_cast<size_t>(i));
  bool ok = got.spec.shape[axis] == chosen.size();
  for (size_t i = 0; i < got.count() && ok; ++i) {
    std::vector<size_t> index = index_of(got.spec.shape, i);
    index[axis] = chosen[index[axis]];
    ok = got.as<float>()[i] == x.as<float>()[broadcast_place(x.spec.shape, index)];
  }
  return check(ok, node + " of " + x.spec.shape.text());
}

bool concats(Random& random) {
  Dims dims = {random.size(3), random.size(3), random.size(3)};
  const size_t axis = static_cast<size_t>(random.integer(0, 2)),
               parts = static_cast<size_t>(random.integer(1, 4));
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < parts; ++i) {
    dims[axis] = random.size(4);
    inputs.push_back(draw(random, dims));
  }
  const Tensor got = run_node(R"("op": "concat", "axis": )" + std::to_string(axis), inputs);
  bool ok = true;
  for (size_t i = 0; i < got.count() && ok; ++i) {
    std::vector<size_t> index = index_of(got.spec.shape, i);
    size_t part = 0;
    while (index[axis] >= inputs[part].spec.shape[axis]) index[axis] -= inputs[part++].spec.shape[axis];
    const Shape& shape = inputs[part].spec.shape;
    size_t place = 0;
    for (size_t a = 0; a < 3; ++a) place = place * shape[a] + index[a];
    ok = got.as<float>()[i] == inputs[part].as<float>()[place];
  }
  return check(ok, "concat to " + got.spec.shape.text());
}

bool moves_pass() {
  Random random(5);
  bool ok = true;
  for (int i = 0; i < 200; ++i) ok &= slices(random) & concats(random);
  const Tensor x = draw(random, {3, 1, 5});
  const Tensor wide = run_node(R"("op": "expand", "shape": [2, -1, 4, -1])", {x});
  bool same = wide.spec.shape == shape_of({2, 3, 4, 5});
  for (size_t i = 0; i < wide.count() && same; ++i)
    same = wide.as<float>()[i] == x.as<float>()[broadcast_place(x.spec.shape, index_of(wide.spec.shape, i))];
  const Tensor tall =
      run_node(R"("op": "expand", "shape": [3, 7])", {Tensor({3, 1}, std::vector<int64_t>{1, 2, 3})});
  for (size_t i = 0; i < tall.count(); ++i) same &= tall.as<int64_t>()[i] == static_cast<int64_t>(i / 7 + 1);
  ok &= check(same, "expand");
  const Tensor flat = run_node(R"("op": "reshape", "shape": [5, -1])", {x});
  ok &= check(flat.spec.shape == shape_of({5, 3}) && memcmp(flat.as<float>(), x.as<float>(), 60) == 0,
              "reshape");
  return ok;
}

bool reduces(Random& random, const Dims& dims, const std::vector<size_t>& axes, bool keep,
             size_t threads = 1) {
  const Tensor x = draw(random, dims);
  Dims kept = dims;
  double folded = 1;
  for (const size_t axis : axes) folded *= static_cast<double>(dims[axis]), kept[axis] = 1;
  const Shape shape = shape_of(kept);
  std::vector<double> sums(shape.count(), 0), largest(shape.count(), -kInfinity);
  for (size_t i = 0; i < x.count(); ++i) {
    const size_t to = broadcast_place(shape, index_of(x.spec.shape, i));
    sums[to] += static_cast<double>(x.as<float>()[i]);
    largest[to] = std::max(largest[to], static_cast<double>(x.as<float>()[i]));
  }
  const std::string rest = R"(, "axes": )" + list_of(axes) + (keep ? R"(, "keep": true)" : "");
  const Tensor sum = run_node(fn("reduce", "sum") + rest, {x}, {}, threads);
  const Tensor mean = run_node(fn("reduce", "mean") + rest, {x}, {}, threads);
  bool ok = sum.count() == sums.size() && sum.spec.shape.rank == dims.size() - (keep ? 0 : axes.size());
  for (size_t i = 0; i < sums.size() && ok; ++i) {
    ok = fabs(sum.as<float>()[i] - sums[i]) <= 1e-6 * sqrt(folded + 1) * 4 &&
         (folded == 0 || fabs(mean.as<float>()[i] - sums[i] / folded) <= 4e-6);
  }
  if (folded > 0) {
    const Tensor most = run_node(fn("reduce", "max") + rest, {x}, {}, threads);
    for (size_t i = 0; i < sums.size() && ok; ++i)
      ok = static_cast<double>(most.as<float>()[i]) == largest[i];
  }
  return check(ok, "reduce " + list_of(axes) + " of " + x.spec.shape.text());
}

bool reduce_passes() {
  Random random(6);
  bool ok = reduces(random, {30, 5000}, {1}, true, 3) && reduces(random, {300, 517}, {0}, false, 3) &&
            reduces(random, {}, {}, false) && reduces(random, {4, 5}, {}, true) &&
            reduces(random, {70000}, {0}, false);
  for (int i = 0; i < 200; ++i) {
    Dims dims(static_cast<size_t>(random.integer(1, 5)));
    std::vector<size_t> axes;
    for (size_t axis = 0; axis < dims.size(); ++axis) {
      dims[axis] = random.chance(12) ? 0 : static_cast<size_t>(random.integer(1, 9));
      if (random.chance(2)) axes.push_back(axis);
    }
    ok &= reduces(random, dims, axes, random.chance(2));
  }
  const Tensor n({2, 3}, std::vector<int64_t>{1, -5, 7, 2, 2, INT64_MIN});
  const Tensor b({2, 2}, std::vector<uint8_t>{0, 3, 0, 0}, Dtype::kBool);
  const std::string last = R"(, "axes": [1])", first = R"(, "axes": [0])";
  using W = std::vector<int64_t>;
  using B = std::vector<uint8_t>;
  return ok && gives(fn("reduce", "sum") + first, {n}, {3}, W{3, -3, INT64_MIN + 7}) &&
         gives(fn("reduce", "sum") + first, {Tensor({3}, std::vector<int32_t>{4, INT32_MAX, 1})}, {},
               std::vector<int32_t>{INT32_MIN + 4}) &&
         gives(fn("reduce", "max") + first, {Tensor({3}, std::vector<int32_t>{4, -7, 5})}, {},
               std::vector<int32_t>{5}) &&
         gives(fn("reduce", "min") + last, {n}, {2}, W{-5, INT64_MIN}) &&
         gives(fn("reduce", "any") + last, {b}, {2}, B{1, 0}, Dtype::kBool) &&
         gives(fn("reduce", "all") + first, {b}, {2}, B{0, 0}, Dtype::kBool) &&
         gives(fn("reduce", "max") + first, {Tensor({3}, std::vector<float>{1, kNan, 2})}, {},
               std::vector<float>{kNan}) &&
         gives(fn("reduce", "mean") + first, {Tensor({0}, std::vector<float>{})}, {},
               std::vector<float>{kNan});
}

bool gather_elements_passes() {
  Random random(9);
  const Tensor x = draw(random, {3, 4, 5});
  bool ok = true;
  for (size_t axis = 0; axis < 3; ++axis) {
    Dims dims = {2, 4, 3};
    dims[axis] = 6;
    const auto size = static_cast<int64_t>(x.spec.shape[axis]);
    const Tensor indices = draw_whole<int64_t>(random, dims, -size, size - 1);
    const Tensor got = run_node(R"("op": "gather_elements", "axis": )" + std::to_string(axis), {x, indices});
    bool same = got.spec.shape == indices.spec.shape && got.spec.dtype == Dtype::kFloat32;
    for (size_t i = 0; same && i < got.count(); ++i) {
      std::vector<size_t> index = index_of(got.spec.shape, i);
      const int64_t chosen = indices.as<int64_t>()[i];
      index[axis] = static_cast<size_t>(chosen < 0 ? chosen + size : chosen);
      same = got.as<float>()[i] == x.as<float>()[(index[0] * 4 + index[1]) * 5 + index[2]];
    }
    ok &= check(same, "gather_elements along axis " + std::to_string(axis));
  }
  return ok;
}

bool gather_passes() {
  Random random(7);
  bool ok = true;
  for (size_t axis = 0; axis < 3; ++axis) {
    const Tensor x = draw(random, {4, 5, 3});
    const auto size = static_cast<int64_t>(x.spec.shape[axis]);
    const Tensor indices = draw_whole<int64_t>(random, {2, 3}, -size, size - 1);
    const Tensor got = run_node(R"("op": "gather", "axis": )" + std::to_string(axis), {x, indices});
    bool same = got.spec.shape.rank == 4;
    for (size_t i = 0; i < got.count() && same; ++i) {
      const std::vector<size_t> index = index_of(got.spec.shape, i);
      const int64_t chosen = indices.as<int64_t>()[index[axis] * 3 + index[axis + 1]];
      std::vector<size_t> from(index.begin(), index.end() - 1);
      from[axis] = static_cast<size_t>(chosen < 0 ? chosen + size : chosen);
      for (size_t a = axis + 1; a < 3; ++a) from[a] = index[a + 1];
      same = got.as<float>()[i] == x.as<float>()[broadcast_place(x.spec.shape, from)];
    }
    ok &= check(same, "gather along axis " + std::to_string(axis));
  }
  return ok;
}

bool multiplies(Random& random, const Dims& a_dims, const Dims& b_dims, bool transposed, size_t threads) {
  const Tensor a = draw(random, a_dims), b = draw(random, b_dims);
  const Tensor got = run_node(
      std::string(R"("op": "matmul")") + (transposed ? R"(, "transpose_b": true)" : ""), {a, b}, {}, threads);
  const size_t depth = a_dims.back();
  Shape a_batch = a.spec.shape, b_batch = b.spec.shape;
  a_batch.rank -= 2, b_batch.rank -= 2;
  bool ok = true;
  for (size_t i = 0; i < got.count() && ok; ++i) {
    std::vector<size_t> index = index_of(got.spec.shape, i);
    const size_t n = index.back(), m = index[index.size() - 2], columns = got.spec.shape.back();
    index.resize(index.size() - 2);
    const size_t rows = got.spec.shape[got.spec.shape.rank - 2];
    const float* x = a.as<float>() + (broadcast_place(a_batch, index) * rows + m) * depth;
    const float* y = b.as<float>() + broadcast_place(b_batch, index) * depth * columns;
    double want = 0;
    for (size_t k = 0; k < depth; ++k)
      want +=
          static_cast<double>(x[k]) * static_cast<double>(transposed ? y[n * depth + k] : y[k * columns + n]);
    ok = fabs(got.as<float>()[i] - want) <= 1e-5 * sqrt(static_cast<double>(depth) + 1);
  }
  return check(ok, "matmul of " + a.spec.shape.text() + " and " + b.spec.shape.text());
}

bool matmul_passes() {
  Random random(8);
  bool ok = multiplies(random, {5, 6}, {6, 7}, false, 1) &&
            multiplies(random, {2, 3, 40, 64}, {3, 64, 50}, false, 2) &&
            multiplies(random, {2, 1, 9, 33}, {4, 33, 65}, false, 1) &&
            multiplies(random, {4, 9, 5}, {5, 3}, false, 1) &&
            multiplies(random, {2, 3, 17, 32}, {2, 3, 60, 32}, true, 3) &&
            multiplies(random, {2, 0}, {0, 3}, false, 1) &&
            multiplies(random, {800, 20}, {20, 100}, false, 3) &&
            multiplies(random, {1, 700}, {49, 700}, true, 1) && multiplies(random, {3, 1}, {9, 1}, true, 1) &&
            multiplies(random, {0, 4}, {4, 5}, false, 1);
  return ok;
}

// Chains, in which results take the place of inputs, and lengths that change.
bool graphs_pass() {
  const std::string text = R"({"entries": [{"name": "main", "dims": [{"name": "s", "min": 0, "max": 99}],
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["s", 3]}],
    "nodes": [{"op": "unary", "fn": "neg", "in": [0]},
              {"op": "binary", "fn": "mul", "value": 2, "in": [1]},
              {"op": "reduce", "fn": "sum", "axes": [0], "keep": true, "in": [2]},
              {"op": "binary", "fn": "sub", "in": [3, 2]},
              {"op": "reshape", "shape": [["s", 3, "*"]], "in": [4]},
              {"op": "range", "start": ["s", 1, "-"], "end": ["s", 1, "+"], "in": []},
              {"op": "slice", "axis": 0, "start": ["s", 2, "//"], "end": "s", "in": [0]}],
    "outputs": [{"name": "y", "value": 5}, {"name": "r", "value": 6}, {"name": "z", "value": 7}]}]})";
  Random random(9);
  bool ok = true;
  for (const size_t length : {2, 5, 1}) {
    const Tensor x = draw(random, {length, 3});
    const std::vector<Tensor> got = run_graph(text, {x});
    for (size_t i = 0; i < 3 * length; ++i) {
      double sum = 0;
      for (size_t row = 0; row < length; ++row)
        sum -= 2 * static_cast<double>(x.as<float>()[row * 3 + i % 3]);
      ok &= close(got[0].as<float>()[i], sum + 2 * static_cast<double>(x.as<float>()[i]), 1e-5);
    }
    ok &= got[1].as<int64_t>()[0] == static_cast<int64_t>(length) - 1 && got[1].count() == 2;
    ok &= got[2].as<float>()[0] == x.as<float>()[length / 2 * 3];
  }
  return check(ok, "graphs");
}

bool refusals_pass() {
  const Tensor x({2, 3}, std::vector<float>(6)), n({2}, std::vector<int64_t>{0, 5});
  const Tensor b({2}, std::vector<uint8_t>(2), Dtype::kBool),
      wide({1, 1, 1, 1, 1, 1, 1, 1}, std::vector<float>(1));
  struct Case {
    const char* code;
    std::string node;
    std::vector<Tensor> inputs;
  };
  const Case cases[] = {
      {"FER-NAT-003", fn("binary", "none"), {x, x}},
      {"FER-NAT-003", R"("op": "binary")", {x, x}},
      {"FER-NAT-003", fn("binary", "add") + R"(, "value": "1")", {x}},
      {"FER-NAT-004", fn("binary", "add") + R"(, "value": "inf")", {n}},
      {"FER-NAT-003", R"("op": "fill", "shape": [1], "dtype": "int64")", {}},
      {"FER-NAT-003", fn("binary", "add") + R"(, "reversed": true)", {x, x}},
      {"FER-NAT-004", fn("binary", "add"), {x}},
      {"FER-NAT-004", fn("binary", "add") + R"(, "value": 1)", {x, x}},
      {"FER-NAT-004", fn("binary", "add") + R"(, "value": 1.5)", {n}},
      {"FER-NAT-004", fn("binary", "add"), {x, n}},
      {"FER-NAT-004", fn("binary", "div"), {n, n}},
      {"FER-NAT-004", fn("binary", "add"), {b, b}},
      {"FER-NAT-004", fn("binary", "add"), {x, Tensor({2}, std::vector<float>(2))}},
      {"FER-NAT-004", fn("logical", "and"), {n, n}},
      {"FER-NAT-004", fn("logical", "not"), {b, b}},
      {"FER-NAT-003", fn("unary", "none"), {x}},
      {"FER-NAT-004", fn("unary", "exp"), {n}},
      {"FER-NAT-004", fn("unary", "exp"), {}},
      {"FER-NAT-003", R"("op": "cast", "dtype": "float64")", {x}},
      {"FER-NAT-004", R"("op": "where")", {x, x, x}},
      {"FER-NAT-004", R"("op": "where")", {b, x, n}},
      {"FER-NAT-004", R"("op": "reshape", "shape": [4])", {x}},
      {"FER-NAT-004", R"("op": "reshape", "shape": [-1, -1])", {x}},
      {"FER-NAT-004", R"("op": "reshape", "shape": [-1, 4])", {x}},
      {"FER-NAT-004", R"("op": "reshape", "shape": [-1, 0])", {x}},
      {"FER-NAT-004", R"("op": "reshape", "shape": [-2, -3])", {x}},
      {"FER-NAT-005", R"("op": "reshape", "shape": [4294967296, 4294967296, 6])", {x}},
      {"FER-NAT-004", R"("op": "reshape", "shape": [1, 1, 1, 1, 1, 1, 1, 2, 3])", {x}},
      {"FER-NAT-003", R"("op": "permute", "axes": [0, 0])", {x}},
      {"FER-NAT-003", R"("op": "permute", "axes": [-1, 0])", {x}},
      {"FER-NAT-004", R"("op": "permute", "axes": [0])", {x}},
      {"FER-NAT-004", R"("op": "slice", "axis": 2, "start": 0, "end": 1)", {x}},
      {"FER-NAT-004", R"("op": "slice", "axis": -1, "start": 0, "end": 1)", {x}},
      {"FER-NAT-003", R"("op": "slice", "axis": 0, "start": 0, "end": 1, "step": 0)", {x}},
      {"FER-NAT-004", R"("op": "concat", "axis": 0)", {}},
      {"FER-NAT-004", R"("op": "concat", "axis": 0)", {x, n}},
      {"FER-NAT-004", R"("op": "concat", "axis": 0)", {x, Tensor({2, 2}, std::vector<float>(4))}},
      {"FER-NAT-004", R"("op": "expand", "shape": [3])", {x}},
      {"FER-NAT-004", R"("op": "expand", "shape": [-1, 2, 3])", {x}},
      {"FER-NAT-004", R"("op": "expand", "shape": [4, 3])", {x}},
      {"FER-NAT-005", R"("op": "expand", "shape": [4611686018427387904, 2, 3])", {x}},
      {"FER-NAT-003", fn("reduce", "sum") + R"(, "axes": [1, 1])", {x}},
      {"FER-NAT-003", fn("reduce", "sum") + R"(, "axes": [-1])", {x}},
      {"FER-NAT-004", fn("reduce", "sum") + R"(, "axes": [2])", {x}},
      {"FER-NAT-004", fn("reduce", "sum") + R"(, "axes": [0])", {b}},
      {"FER-NAT-004", fn("reduce", "max") + R"(, "axes": [0])", {Tensor({0}, std::vector<float>())}},
      {"FER-NAT-004", R"("op": "gather", "axis": 0)", {x, x}},
      {"FER-NAT-004", R"("op": "gather", "axis": 2)", {x, n}},
      {"FER-NAT-004", R"("op": "gather_elements", "axis": 0)", {x, x}},
      {"FER-NAT-004", R"("op": "gather_elements", "axis": 0)", {x, Tensor({1}, std::vector<int64_t>{0})}},
      {"FER-NAT-004",
       R"("op": "gather_elements", "axis": 0)",
       {x, Tensor({1, 99}, std::vector<int64_t>(99))}},
      {"FER-NAT-008",
       R"("op": "gather_elements", "axis": 0)",
       {x, Tensor({1, 1}, std::vector<int64_t>{INT64_MAX})}},
      {"FER-NAT-008", R"("op": "gather", "axis": 0)", {x, n}},
      {"FER-NAT-008", R"("op": "gather", "axis": 0)", {x, Tensor({1}, std::vector<int64_t>{INT64_MIN})}},
      {"FER-NAT-005", R"("op": "gather", "axis": 0)", {wide, Tensor({1, 1}, std::vector<int64_t>{0})}},
      {"FER-NAT-003", R"("op": "range", "start": 0, "end": 1, "step": 0)", {}},
      {"FER-NAT-003", R"("op": "range", "start": 0, "end": 1, "dtype": "bool")", {}},
      {"FER-NAT-004", R"("op": "range", "start": 4294967295, "end": 4294967296, "dtype": "int32")", {}},
      {"FER-NAT-005", R"("op": "range", "start": -9223372036854775807, "end": 9223372036854775807)", {}},
      {"FER-NAT-003", R"("op": "fill", "shape": [1], "value": 0.5, "dtype": "int64")", {}},
      {"FER-NAT-003", R"("op": "fill", "shape": [1], "value": 256, "dtype": "uint8")", {}},
      {"FER-NAT-004", R"("op": "fill", "shape": [-1], "value": 0, "dtype": "int64")", {}},
      {"FER-NAT-004", R"("op": "matmul")", {x, x}},
      {"FER-NAT-004", R"("op": "matmul")", {x, Tensor({3}, std::vector<float>(3))}},
      {"FER-NAT-004", R"("op": "matmul")", {n, n}},
  };
  bool ok = true;
  for (const Case& c : cases) {
    const std::string code = code_of(c.node, c.inputs);
    ok &= check(code == c.code, c.node + " gives " + (code.empty() ? "no error" : code));
  }
  return ok;
}

}  // namespace

bool executor_tensors_pass() {
  bool ok = true;
  for (const auto passes : {binary_passes, comparisons_pass, numbers_pass, unary_passes, cast_passes,
                            where_passes, permute_passes, moves_pass, reduce_passes, gather_passes,
                            gather_elements_passes, matmul_passes, graphs_pass, refusals_pass})
    ok &= passes();
  return ok;
}

}  // namespace ferrule::tests
