#include "ferrule/tokens.h"

#include "vendors/run.h"

namespace ferrule::vendors {

ferrule_status shape_token_match(Call* call) {
  const Tensor& metric = call->inputs[0];
  if (metric.rank != 4) return FERRULE_BAD_SHAPE;
  const size_t batch = metric.sizes[0], tokens = metric.sizes[2];
  if (!has_sizes(call->inputs[1], {batch, tokens}) || !has_sizes(call->inputs[2], {batch}))
    return FERRULE_BAD_SHAPE;
  if (call->attributes[0].integer < 0 || call->attributes[1].integer < 0) return FERRULE_BAD_VALUE;
  set_sizes(&call->outputs[0], {batch, tokens});
  set_sizes(&call->outputs[1], {batch});
  return FERRULE_OK;
}

ferrule_status run_token_match(const Call& call, Holder*) {
  const Tensor& metric = call.inputs[0];
  ferrule_token_match_args args = {};
  args.metric = data_of<float>(metric);
  args.sizes = data_of<float>(call.inputs[1]);
  args.counts = data_of<int32_t>(call.inputs[2]);
  args.plan = data_of<int32_t>(call.outputs[0]);
  args.left = data_of<int32_t>(call.outputs[1]);
  args.batch = metric.sizes[0];
  args.heads = metric.sizes[1];
  args.tokens = metric.sizes[2];
  args.width = metric.sizes[3];
  args.token_stride = args.width;
  args.head_stride = args.tokens * args.width;
  args.batch_stride = args.heads * args.head_stride;
  args.count = static_cast<size_t>(call.attributes[0].integer);
  args.protected_tokens = static_cast<size_t>(call.attributes[1].integer);
  const auto pool = current_pool();
  void* const scratch = take_scratch(ferrule_token_match_scratch(&args, ferrule_pool_threads(pool.get())));
  if (!scratch) return FERRULE_TOO_LARGE;
  return ferrule_token_match(&args, nullptr, pool.get(), scratch);
}

ferrule_status shape_token_merge(Call* call) {
  const Tensor& x = call->inputs[0];
  if (x.rank != 3) return FERRULE_BAD_SHAPE;
  const int64_t left = call->attributes[0].integer;
  if (left < 0 || left > INT32_MAX) return FERRULE_BAD_VALUE;
  for (size_t i : {1, 2}) {
    if (!has_sizes(call->inputs[i], {x.sizes[0], x.sizes[1]})) return FERRULE_BAD_SHAPE;
  }
  set_sizes(&call->outputs[0], {x.sizes[0], static_cast<size_t>(left), x.sizes[2]});
  set_sizes(&call->outputs[1], {x.sizes[0], static_cast<size_t>(left)});
  return FERRULE_OK;
}

ferrule_status run_token_merge(const Call& call, Holder*) {
  const Tensor& x = call.inputs[0];
  ferrule_token_merge_args args = {};
  args.input = data_of<float>(x);
  args.plan = data_of<int32_t>(call.inputs[1]);
  args.sizes = data_of<float>(call.inputs[2]);
  args.output = data_of<float>(call.outputs[0]);
  args.merged_sizes = data_of<float>(call.outputs[1]);
  args.batch = x.sizes[0];
  args.tokens = x.sizes[1];
  args.width = x.sizes[2];
  args.left = call.outputs[0].sizes[1];
  args.input_stride = args.output_stride = args.width;
  args.input_batch_stride = args.tokens * args.width;
  args.output_batch_stride = args.left * args.width;
  return ferrule_token_merge(&args, nullptr, current_pool().get());
}

}  // namespace ferrule::vendors
