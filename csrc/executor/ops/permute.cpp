// Axes in another order. axes: for each axis of the result the one of the input.
#include <string.h>

#include "executor/ops/loops.h"
#include "executor/ops/tensor.h"

namespace ferrule::executor {

namespace {

constexpr size_t kStrip = 1024;  // rows of a few columns
constexpr size_t kBlock = 16;    // rows and columns that are swapped at a time: a cache line of float32 each

// Axes of the result and what a step along each is in the input; neighbours that stay neighbours are one.
struct Walk {
  size_t rank = 0;
  size_t dims[kMostRank] = {}, strides[kMostRank] = {};

  // The offset in the input of row `row`, where `left_out` axes are not counted in rows.
  size_t offset(size_t row, size_t left_out, size_t other) const {
    size_t at = 0;
    for (size_t axis = rank; axis-- > 0;) {
      if (axis == left_out || axis == other) continue;
      at += row % dims[axis] * strides[axis];
      row /= dims[axis];
    }
    return at;
  }
};

Walk make_walk(const Shape& input, const std::vector<size_t>& axes) {
  size_t strides[kMostRank] = {}, stride = 1;
  for (size_t axis = input.rank; axis-- > 0;) {
    strides[axis] = stride;
    stride *= input[axis];
  }
  Walk walk;
  for (const size_t axis : axes) {
    if (input[axis] == 1) continue;
    if (walk.rank && walk.strides[walk.rank - 1] == strides[axis] * input[axis]) {
      walk.dims[walk.rank - 1] *= input[axis];
    } else {
      walk.dims[walk.rank++] = input[axis];
    }
    walk.strides[walk.rank - 1] = strides[axis];
  }
  if (walk.rank == 0) walk.dims[0] = walk.strides[0] = walk.rank = 1;
  return walk;
}

// result[r][c] = input[c][r] for a block; strides in elements.
template <typename T>
void swap_block(const T* input, size_t input_stride, T* result, size_t result_stride, size_t rows,
                size_t columns) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) result[r * result_stride + c] = input[c * input_stride + r];
  }
}

// The same for as few columns as an image has, whose number the compiler knows.
template <size_t kColumns, typename T>
void join_columns(const T* input, size_t input_stride, T* result, size_t result_stride, size_t rows) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < kColumns; ++c) result[r * result_stride + c] = input[c * input_stride + r];
  }
}

template <typename T>
void swap_few(const T* input, size_t input_stride, T* result, size_t result_stride, size_t rows,
              size_t columns) {
  if (columns == 3 && result_stride == 3) return join_columns<3>(input, input_stride, result, 3, rows);
  if (columns == 4 && result_stride == 4) return join_columns<4>(input, input_stride, result, 4, rows);
  swap_block(input, input_stride, result, result_stride, rows, columns);
}

class Permute : public TensorOp {
 public:
  explicit Permute(const Node& node) : TensorOp(node) {
    const std::vector<int64_t> axes = node.integers("axes");
    std::vector<bool> seen(axes.size());
    for (const int64_t axis : axes) {
      if (axis < 0 || static_cast<size_t>(axis) >= axes.size() || seen[static_cast<size_t>(axis)])
        node.refuse("`axes` has not each axis once");
      seen[static_cast<size_t>(axis)] = true;
      axes_.push_back(static_cast<size_t>(axis));
    }
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 1);
    if (inputs[0].shape.rank != axes_.size()) misfit("`axes` has not each axis of " + inputs[0].shape.text());
    Shape shape;
    for (const size_t axis : axes_) shape.push(inputs[0].shape[axis]);
    return {{inputs[0].dtype, shape}};
  }

  void run(const Call& call) const override {
    with_size(call.outputs[0].spec.dtype, [&](auto zero) { run_as<decltype(zero)>(call); });
  }

 private:
  template <typename T>
  void run_as(const Call& call) const {
    const size_t count = call.outputs[0].shape().count();
    if (count == 0) return;
    const Walk walk = make_walk(call.inputs[0].shape(), axes_);
    const T* input = call.inputs[0].as<T>();
    T* result = call.outputs[0].as<T>();
    if (walk.strides[walk.rank - 1] == 1) {
      copy_runs(walk, input, result, count, call.pool);
    } else {
      swap_blocks(walk, input, result, count, call.pool);
    }
  }

  template <typename T>
  static void copy_runs(const Walk& walk, const T* input, T* result, size_t count, ferrule_pool* pool) {
    const size_t last = walk.rank - 1, run = walk.dims[last];
    divide(count / run, kSmallestPart / run + 1, pool, [&](size_t begin, size_t end) {
      for (size_t row = begin; row < end; ++row)
        memcpy(result + row * run, input + walk.offset(row, last, last), run * sizeof(T));
    });
  }

  // The input's last axis is another one of the result, `side`: those two are swapped in blocks.
  template <typename T>
  static void swap_blocks(const Walk& walk, const T* input, T* result, size_t count, ferrule_pool* pool) {
    const size_t last = walk.rank - 1, columns = walk.dims[last];
    size_t side = 0, stride = count / walk.dims[0];
    while (walk.strides[side] != 1) stride /= walk.dims[++side];
    const size_t strip = columns <= 4 ? kStrip : kBlock;
    const size_t rows = walk.dims[side], strips = (rows + strip - 1) / strip, between = stride / columns;
    divide(count / rows / columns * strips, kSmallestPart / (strip * columns) + 1, pool,
           [&](size_t begin, size_t end) {
             for (size_t unit = begin; unit < end; ++unit) {
               const size_t outer = unit / strips, first = unit % strips * strip;
               const size_t height = rows - first < strip ? rows - first : strip;
               const T* from = input + walk.offset(outer, last, side) + first;
               T* to = result + outer / between * rows * stride + outer % between * columns + first * stride;
               for (size_t c = 0; c < columns; c += kBlock) {
                 const size_t width = columns - c < kBlock ? columns - c : kBlock;
                 swap_few(from + c * walk.strides[last], walk.strides[last], to + c, stride, height, width);
               }
             }
           });
  }

  std::vector<size_t> axes_;
};

}  // namespace

std::unique_ptr<Op> make_permute(const Node& node) { return std::make_unique<Permute>(node); }

}  // namespace ferrule::executor
