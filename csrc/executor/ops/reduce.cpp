// Elements along axes made into one. fn: sum, mean (float32), max, min (with sum: int64 and int32 as well),
// any, all (bool). axes: which; keep: whether they stay, with length 1.
#include <limits>

#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

enum Fn { kSum, kMean, kMax, kMin, kAny, kAll };

// How elements are folded: `Part` holds some of them, `Whole` all. Sums of float32 are made of blocks in
// float32, and of those in double.
struct AddReal {
  using In = float;
  using Part = float;
  using Whole = double;
  static constexpr float kFirst = 0;
  static Part fold(Part a, In x) { return a + x; }
  static Whole join(Whole a, Part b) { return a + b; }
};
template <typename T>
struct AddWhole {
  using In = T;
  using Part = uint64_t;  // which wraps around
  using Whole = uint64_t;
  static constexpr uint64_t kFirst = 0;
  static Part fold(Part a, In x) { return a + static_cast<uint64_t>(x); }
  static Whole join(Whole a, Part b) { return a + b; }
};
template <typename T, bool kLargest>
struct Extreme {
  using In = T;
  using Part = T;
  using Whole = T;
  using Limits = std::numeric_limits<T>;
  static constexpr T kLow = Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
  static constexpr T kHigh = Limits::has_infinity ? Limits::infinity() : Limits::max();
  static constexpr T kFirst = kLargest ? kLow : kHigh;
  // NaN comes through.
  static T fold(T a, T x) { return ((kLargest ? x > a : x < a) | (x != x)) ? x : a; }
  static T join(T a, T b) { return fold(a, b); }
};
template <bool kEach>
struct Logic {
  using In = uint8_t;
  using Part = uint8_t;
  using Whole = uint8_t;
  static constexpr uint8_t kFirst = kEach;
  static Part fold(Part a, In x) { return kEach ? a & (x != 0) : a | (x != 0); }
  static Whole join(Whole a, Part b) { return fold(a, b); }
};

// The input's axes without those of length 1; neighbours that are reduced, or kept, alike are one.
struct Groups {
  size_t rank = 0;
  size_t dims[kMostRank] = {}, strides[kMostRank] = {};
  bool reduced[kMostRank] = {};

  bool ends_reduced() const { return rank && reduced[rank - 1]; }
  size_t inner() const { return rank ? dims[rank - 1] : 1; }
  // Elements of the groups that are reduced, or kept, but for the last group.
  size_t count(bool which) const {
    size_t product = 1;
    for (size_t group = 0; group + 1 < rank; ++group) product *= reduced[group] == which ? dims[group] : 1;
    return product;
  }
  size_t offset(bool which, size_t index) const {
    size_t at = 0;
    for (size_t group = rank ? rank - 1 : 0; group-- > 0;) {
      if (reduced[group] != which) continue;
      at += index % dims[group] * strides[group];
      index /= dims[group];
    }
    return at;
  }
};

Groups make_groups(const Shape& input, const bool* reduced) {
  Groups groups;
  for (size_t axis = 0; axis < input.rank; ++axis) {
    if (input[axis] == 1) continue;
    if (groups.rank && groups.reduced[groups.rank - 1] == reduced[axis]) {
      groups.dims[groups.rank - 1] *= input[axis];
    } else {
      groups.dims[groups.rank] = input[axis];
      groups.reduced[groups.rank++] = reduced[axis];
    }
  }
  size_t stride = 1;
  for (size_t group = groups.rank; group-- > 0;) {
    groups.strides[group] = stride;
    stride *= groups.dims[group];
  }
  return groups;
}

// All of `count` neighbouring elements, in lanes that become vectors.
template <typename Fold>
typename Fold::Whole fold_run(const typename Fold::In* x, size_t count) {
  constexpr size_t kLanes = 16, kBlock = 1024;
  typename Fold::Whole whole = Fold::kFirst;
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t end = count - begin < kBlock ? count : begin + kBlock;
    typename Fold::Part lanes[kLanes];
    for (auto& lane : lanes) lane = Fold::kFirst;
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = Fold::fold(lanes[lane], x[i + lane]);
    }
    for (; i < end; ++i) lanes[0] = Fold::fold(lanes[0], x[i]);
    for (const auto lane : lanes) whole = Fold::join(whole, lane);
  }
  return whole;
}

// The last axis is reduced: each result is made of whole runs.
template <typename Fold, typename Finish>
void reduce_runs(const Groups& groups, const Call& call, const Finish& finish) {
  const auto* input = call.inputs[0].as<typename Fold::In>();
  const size_t run = groups.inner(), runs = groups.count(true);
  divide(groups.count(false), kSmallestPart / (run * runs + 1) + 1, call.pool, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const auto* from = input + groups.offset(false, i);
      typename Fold::Whole whole = Fold::kFirst;
      for (size_t r = 0; r < runs; ++r)
        whole = Fold::join(whole, fold_run<Fold>(from + groups.offset(true, r), run));
      finish(i, whole);
    }
  });
}

// The last axis is kept: rows are added to each other, some columns at a time.
template <typename Fold, typename Finish>
void reduce_rows(const Groups& groups, const Call& call, const Finish& finish) {
  constexpr size_t kStrip = 64;
  const auto* input = call.inputs[0].as<typename Fold::In>();
  const size_t width = groups.inner(), rows = groups.count(true), strips = (width + kStrip - 1) / kStrip;
  const size_t smallest = kSmallestPart / (kStrip * (rows < kSmallestPart ? rows : kSmallestPart) + 1) + 1;
  divide(groups.count(false) * strips, smallest, call.pool, [&](size_t begin, size_t end) {
    for (size_t unit = begin; unit < end; ++unit) {
      const size_t first = unit % strips * kStrip, count = width - first < kStrip ? width - first : kStrip;
      const auto* from = input + groups.offset(false, unit / strips) + first;
      typename Fold::Whole whole[kStrip];
      for (auto& column : whole) column = Fold::kFirst;
      for (size_t r = 0; r < rows; ++r) {
        const auto* row = from + groups.offset(true, r);
        for (size_t c = 0; c < count; ++c) whole[c] = Fold::join(whole[c], Fold::fold(Fold::kFirst, row[c]));
      }
      for (size_t c = 0; c < count; ++c) finish(unit / strips * width + first + c, whole[c]);
    }
  });
}

class Reduce : public TensorOp {
 public:
  explicit Reduce(const Node& node)
      : TensorOp(node),
        fn_(static_cast<Fn>(read_choice(node, "fn", {"sum", "mean", "max", "min", "any", "all"}))),
        keep_(node.flag("keep")) {
    for (const int64_t axis : node.integers("axes")) {
      if (axis < 0 || static_cast<size_t>(axis) >= kMostRank || reduced_[axis])
        node.refuse("`axes` are no axes, or one twice");
      reduced_[axis] = true;
    }
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 1);
    const Shape& input = inputs[0].shape;
    check_dtype(inputs[0]);
    size_t folded = 1;
    Shape shape;
    for (size_t axis = 0; axis < kMostRank; ++axis) {
      if (reduced_[axis]) require_axis(static_cast<int64_t>(axis), input.rank);
      if (axis >= input.rank) continue;
      if (reduced_[axis]) folded *= input[axis];
      if (!reduced_[axis] || keep_) shape.push(reduced_[axis] ? 1 : input[axis]);
    }
    if (folded == 0 && shape.count() && (fn_ == kMax || fn_ == kMin))
      misfit("shape " + input.text() + " has no element to choose");
    return {{inputs[0].dtype, shape}};
  }

  void run(const Call& call) const override {
    switch (call.inputs[0].spec.dtype) {
      case Dtype::kFloat32:
        return fn_ == kSum || fn_ == kMean ? fold<AddReal>(call) : choose<float>(call);
      case Dtype::kInt64:
        return fn_ == kSum ? fold<AddWhole<int64_t>>(call) : choose<int64_t>(call);
      case Dtype::kInt32:
        return fn_ == kSum ? fold<AddWhole<int32_t>>(call) : choose<int32_t>(call);
      default:
        return fn_ == kAny ? fold<Logic<false>>(call) : fold<Logic<true>>(call);
    }
  }

 private:
  void check_dtype(const Spec& input) const {
    const bool is_logic = fn_ == kAny || fn_ == kAll;
    const bool is_whole = input.dtype == Dtype::kInt64 || input.dtype == Dtype::kInt32;
    if (is_whole && !is_logic && fn_ != kMean) return;
    require_dtype(input, is_logic ? Dtype::kBool : Dtype::kFloat32);
  }

  template <typename T>
  void choose(const Call& call) const {
    return fn_ == kMax ? fold<Extreme<T, true>>(call) : fold<Extreme<T, false>>(call);
  }

  template <typename Fold>
  void fold(const Call& call) const {
    const Groups groups = make_groups(call.inputs[0].shape(), reduced_);
    auto* result = call.outputs[0].as<typename Fold::In>();
    const size_t results = call.outputs[0].shape().count();
    if (results == 0) return;
    const double count = static_cast<double>(call.inputs[0].shape().count()) / static_cast<double>(results);
    const bool is_mean = fn_ == kMean;
    const auto finish = [=](size_t i, typename Fold::Whole whole) {
      result[i] =
          static_cast<typename Fold::In>(is_mean ? static_cast<typename Fold::Whole>(whole / count) : whole);
    };
    if (groups.ends_reduced())
      reduce_runs<Fold>(groups, call, finish);
    else
      reduce_rows<Fold>(groups, call, finish);
  }

  Fn fn_;
  bool keep_;
  bool reduced_[kMostRank] = {};
};

}  // namespace

std::unique_ptr<Op> make_reduce(const Node& node) { return std::make_unique<Reduce>(node); }

}  // namespace ferrule::executor
