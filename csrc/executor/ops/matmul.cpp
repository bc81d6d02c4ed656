// Products of matrices, [m, k] times [k, n] ([n, k] where `transpose_b`), with broadcasting of the axes
// before. float32. Both factors are values of the program: the second one is packed for the kernel of linear
// layers while it runs, a panel of columns at a time.
#include <string.h>

#include "executor/ops/loops.h"
#include "executor/ops/tensor.h"
#include "ferrule/arena.h"
#include "ferrule/gemm.h"
#include "ops/panels.h"

namespace ferrule::executor {

namespace {

constexpr size_t kBlockRows = 384;             // rows for which packing a panel hardly counts
constexpr size_t kSmallestProducts = 1 << 16;  // multiplications that are worth a thread

// A panel of columns [first, first + count) of a matrix whose element k, n is at k * k_stride + n * n_stride.
struct Columns {
  const float* matrix;
  size_t k_stride, n_stride, first, count;

  // In the layout of gemm_f32, whose steps are single k: [k][columns].
  void pack(const ferrule_panel_layout& layout, float* to) const {
    constexpr size_t kDepth = 64;  // k that are read along a row of [n, k] before the next row is
    const float* from = matrix + first * n_stride;
    if (n_stride == 1) {
      for (size_t k = 0; k < layout.depth; ++k) pack_k(from + k * k_stride, layout, to + k * layout.columns);
      return;
    }
    for (size_t begin = 0; begin < layout.depth; begin += kDepth) {
      const size_t end = layout.depth - begin < kDepth ? layout.depth : begin + kDepth;
      for (size_t c = 0; c < layout.columns; ++c) {
        for (size_t k = begin; k < end; ++k)
          to[k * layout.columns + c] = c < count ? from[c * n_stride + k * k_stride] : 0;
      }
    }
  }

 private:
  void pack_k(const float* from, const ferrule_panel_layout& layout, float* to) const {
    memcpy(to, from, count * sizeof(float));
    for (size_t c = count; c < layout.columns; ++c) to[c] = 0;
  }
};

class Matmul : public TensorOp {
 public:
  explicit Matmul(const Node& node) : TensorOp(node), is_transposed_(node.flag("transpose_b")) {
    node.use_kernel("gemm_f32");
    const char* isa = nullptr;
    ferrule_active_isa(&isa);
    kernel_ = ferrule_find_kernel("gemm_f32", isa);
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 2);
    for (const Spec& input : inputs) {
      require_dtype(input, Dtype::kFloat32);
      if (input.shape.rank < 2) misfit("shape " + input.shape.text() + " is no matrix");
    }
    const Shape &a = inputs[0].shape, &b = inputs[1].shape;
    ferrule_panel_layout layout;
    if (a.back() != b[b.rank - (is_transposed_ ? 1 : 2)])
      misfit("shapes " + a.text() + " and " + b.text() + " do not multiply");
    if (!lay_out(a.back(), &layout)) misfit("shape " + a.text() + " is too deep");
    Shape shape = broadcast(batch_of(a), batch_of(b));
    shape.push(a[a.rank - 2]);
    shape.push(b[b.rank - (is_transposed_ ? 2 : 1)]);
    return {{Dtype::kFloat32, shape}};
  }

  size_t scratch(const std::vector<Spec>& inputs, size_t threads) const override {
    ferrule_panel_layout layout;
    lay_out(inputs[0].shape.back(), &layout);
    const size_t bytes = scratch_of(layout);
    return ops::fits(threads, bytes, 1) ? threads * bytes : SIZE_MAX;
  }

  void run(const Call& call) const override {
    const Shape &a = call.inputs[0].shape(), &b = call.inputs[1].shape(), &result = call.outputs[0].shape();
    const size_t count = result.count();
    if (count == 0) return;
    ferrule_panel_layout layout;
    lay_out(a.back(), &layout);
    const Shape a_batch = batch_of(a), b_batch = batch_of(b);
    Grid grid = {};
    grid.columns = result.back();
    grid.rows = result[result.rank - 2];
    grid.batches = count / grid.columns / grid.rows;
    grid.a_matrix = grid.rows * layout.depth;
    grid.b_matrix = grid.columns * layout.depth;
    grid.loops = make_loops(batch_of(result), {&a_batch, &b_batch});
    if (b_batch.count() == 1) {  // one matrix for all rows of the first factor
      grid.rows *= grid.batches;
      grid.batches = 1;
      grid.loops = make_loops(Shape(), {});
    }
    grid.blocks = (grid.rows + kBlockRows - 1) / kBlockRows;
    grid.panels = (grid.columns + layout.columns - 1) / layout.columns;
    multiply(call, layout, grid);
  }

 private:
  // What is divided over threads: for each pair of matrices panels of columns, and for each of them blocks of
  // rows.
  struct Grid {
    size_t rows, columns, batches, blocks, panels;
    size_t a_matrix, b_matrix;  // elements
    Loops loops;                // from a matrix of the result to those of the factors
  };

  static Shape batch_of(Shape shape) {
    shape.rank -= 2;
    return shape;
  }

  bool lay_out(size_t depth, ferrule_panel_layout* layout) const {
    return ferrule_lay_out_panels(kernel_->op, kernel_->isa, depth, 0, layout) == FERRULE_OK;
  }

  // Of one thread: a panel, and what the kernel needs.
  static size_t scratch_of(const ferrule_panel_layout& layout) {
    return ops::round_up(layout.bytes + ferrule_gemm_scratch(&layout), FERRULE_ALIGNMENT);
  }

  void multiply(const Call& call, const ferrule_panel_layout& layout, const Grid& grid) const {
    const size_t block = grid.rows < kBlockRows ? grid.rows : kBlockRows;
    const size_t products = block * layout.columns * (layout.depth + 1);
    const size_t bytes = scratch_of(layout);
    divide(grid.batches * grid.panels * grid.blocks, kSmallestProducts / products + 1, call.pool,
           [&](size_t begin, size_t end, size_t worker) {
             auto* panel = static_cast<unsigned char*>(call.scratch) + worker * bytes;
             memset(panel + layout.scales, 0, layout.bytes - layout.scales);
             auto* scales = reinterpret_cast<float*>(panel + layout.scales);
             for (size_t c = 0; c < layout.columns; ++c) scales[c] = 1;
             for (size_t unit = begin; unit < end; ++unit)
               run_unit(call, layout, grid, unit, unit == begin || unit % grid.blocks == 0, panel);
           });
  }

  void run_unit(const Call& call, const ferrule_panel_layout& layout, const Grid& grid, size_t unit,
                bool is_new_panel, unsigned char* panel) const {
    const size_t first_row = unit % grid.blocks * kBlockRows;
    const size_t first = unit / grid.blocks % grid.panels * layout.columns;
    const size_t batch = unit / grid.blocks / grid.panels;
    size_t a = 0, b = 0;
    for_rows(grid.loops, batch, batch + 1, [&](const size_t* at, size_t, size_t) { a = at[0], b = at[1]; });
    const size_t width = grid.columns - first, rows = grid.rows - first_row;
    const Columns columns = {call.inputs[1].as<float>() + b * grid.b_matrix,
                             is_transposed_ ? 1 : grid.columns, is_transposed_ ? layout.depth : 1, first,
                             width < layout.columns ? width : layout.columns};
    if (is_new_panel) columns.pack(layout, reinterpret_cast<float*>(panel));
    ferrule_gemm_args args = {};
    args.input = call.inputs[0].as<float>() + a * grid.a_matrix + first_row * layout.depth;
    args.input_stride = layout.depth;
    args.packed = panel;
    args.output = call.outputs[0].as<float>() + (batch * grid.rows + first_row) * grid.columns + first;
    args.output_stride = grid.columns;
    args.m = rows < kBlockRows ? rows : kBlockRows;
    args.n = columns.count;
    args.layout = layout;
    reinterpret_cast<ferrule_gemm_fn*>(kernel_->function)(&args, 0, 1, panel + layout.bytes);
  }

  bool is_transposed_;
  const ferrule_kernel* kernel_;
};

}  // namespace

std::unique_ptr<Op> make_matmul(const Node& node) { return std::make_unique<Matmul>(node); }

}  // namespace ferrule::executor
