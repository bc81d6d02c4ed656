#include "ferrule/tokens.h"

#include "arguments.h"
#include "groups.h"
#include "memory.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

py::tuple token_match(const py::object& metric, const py::object& count, const py::object& sizes,
                      const py::object& counts, const py::object& protected_tokens, const py::object& pool,
                      const py::object& isa) {
  const Tensor x = Tensor::read(metric, "metric", {Dtype::kFloat32});
  x.require_rank(4);
  const size_t batch = x.size(0), tokens = x.size(2);
  const auto s = read_optional(sizes, "sizes", {Dtype::kFloat32});
  if (s) s->require_shape({batch, tokens}, "batch and tokens of metric").require_contiguous();
  const auto n = read_optional(counts, "counts", {Dtype::kInt32});
  if (n) n->require_shape({batch}, "the batch of metric");
  const Tensor plan = Tensor::make("metric", {batch, tokens}, Dtype::kInt32);
  const Tensor left = Tensor::make("metric", {batch}, Dtype::kInt32);

  ferrule_token_match_args args = {};
  args.metric = x.data<float>();
  args.sizes = data_of<float>(s);
  args.counts = data_of<int32_t>(n);
  args.plan = plan.data<int32_t>();
  args.left = left.data<int32_t>();
  args.batch_stride = x.stride(0);
  args.head_stride = x.stride(1);
  args.token_stride = x.stride(2);
  args.batch = batch;
  args.heads = x.size(1);
  args.tokens = tokens;
  args.width = x.size(3);
  args.protected_tokens =
      static_cast<size_t>(require_integer(protected_tokens, "protected_tokens", 0, INT32_MAX));
  args.count = static_cast<size_t>(require_integer(count, "count", 0, INT32_MAX));
  const std::string usable = require_isa(isa);
  run("token_match", pool, [&](ferrule_pool* threads) {
    const size_t bytes = ferrule_token_match_scratch(&args, ferrule_pool_threads(threads));
    return ferrule_token_match(&args, usable.c_str(), threads, take_scratch(bytes));
  });
  return py::make_tuple(plan.object(), left.object());
}

// input and plan of merging or of undoing it, checked; `output` is rows of that shape.
template <typename Args>
void fill(const Tensor& x, const Tensor& plan, const Tensor& y, Args* args) {
  args->input = x.data<float>();
  args->plan = plan.data<int32_t>();
  args->output = y.data<float>();
  args->input_batch_stride = x.stride(0);
  args->input_stride = x.stride(1);
  args->output_batch_stride = y.stride(0);
  args->output_stride = y.stride(1);
  args->batch = x.size(0);
  args->tokens = plan.size(1);
  args->width = x.size(2);
}

py::tuple token_merge(const py::object& input, const py::object& plan, const py::object& left,
                      const py::object& sizes, const py::object& out, const py::object& merged_sizes,
                      const py::object& pool, const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  x.require_rank(3);
  const Tensor p = Tensor::read(plan, "plan", {Dtype::kInt32});
  p.require_shape({x.size(0), x.size(1)}, "batch and tokens of input").require_contiguous();
  const auto s = read_optional(sizes, "sizes", {Dtype::kFloat32});
  if (s) s->require_shape(p.shape(), "batch and tokens of input").require_contiguous();
  ferrule_token_merge_args args = {};
  args.left = static_cast<size_t>(require_integer(left, "left", 0, INT32_MAX));
  const Tensor y = Tensor::output(out, "out", {x.size(0), args.left, x.size(2)}, Dtype::kFloat32);
  const Tensor merged = Tensor::output(merged_sizes, "merged_sizes", {x.size(0), args.left}, Dtype::kFloat32);
  y.require_apart(x).require_apart(p).require_apart(merged).require_apart_from_all({&s});
  merged.require_contiguous().require_apart(x).require_apart(p).require_apart_from_all({&s});
  fill(x, p, y, &args);
  args.sizes = data_of<float>(s);
  args.merged_sizes = merged.data<float>();
  run("token_merge", &ferrule_token_merge, args, isa, pool);
  return py::make_tuple(y.object(), merged.object());
}

py::object token_unmerge(const py::object& input, const py::object& plan, const py::object& out,
                         const py::object& pool, const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  x.require_rank(3);
  const Tensor p = Tensor::read(plan, "plan", {Dtype::kInt32});
  p.require_rank(2).require_contiguous();
  p.require_shape({x.size(0), p.size(1)}, "the batch of input");
  const Tensor y = Tensor::output(out, "out", {x.size(0), p.size(1), x.size(2)}, Dtype::kFloat32);
  y.require_apart(x).require_apart(p);
  ferrule_token_unmerge_args args = {};
  fill(x, p, y, &args);
  args.left = x.size(1);
  run("token_unmerge", &ferrule_token_unmerge, args, isa, pool);
  return y.object();
}

}  // namespace

void bind_tokens(py::module_& module) {
  const py::object none = py::none();
  module.def("token_match", &token_match, "Which tokens to merge into which.", py::arg("metric"),
             py::arg("count"), py::kw_only(), py::arg("sizes") = none, py::arg("counts") = none,
             py::arg("protected_tokens") = 0, py::arg("pool") = none, py::arg("isa") = none);
  module.def("token_merge", &token_merge, "Means of tokens after a plan.", py::arg("input"), py::arg("plan"),
             py::arg("left"), py::kw_only(), py::arg("sizes") = none, py::arg("out") = none,
             py::arg("merged_sizes") = none, py::arg("pool") = none, py::arg("isa") = none);
  module.def("token_unmerge", &token_unmerge, "Each token what it went into.", py::arg("input"),
             py::arg("plan"), py::kw_only(), py::arg("out") = none, py::arg("pool") = none,
             py::arg("isa") = none);
}

}  // namespace ferrule::bindings
