// The largest value or the mean of each window of an image, channel by channel.
// {fn: max | mean, kernel, stride, padding, count_padding}, in [x [batch, height, width, channels]].
#include "ferrule/pooling.h"

#include "executor/ops/window.h"

namespace ferrule::executor {

namespace {

class Pooling : public WindowOp {
 public:
  explicit Pooling(const Node& node) : WindowOp(node), counts_padding_(node.flag("count_padding")) {
    node.use_kernel("pooling");
    constexpr Word kFunctions[] = {{"max", FERRULE_POOLING_MAX}, {"mean", FERRULE_POOLING_AVERAGE}};
    kind_ = read_word(node, "fn", kFunctions);
    const std::vector<size_t> kernel = read_sizes(node, "kernel", 2, 1);
    window_.kernel_height = kernel[0];
    window_.kernel_width = kernel[1];
    const bool dilated = window_.dilation_height != 1 || window_.dilation_width != 1;
    if (dilated && kind_ == FERRULE_POOLING_AVERAGE) node.refuse("a mean over dilated windows");
  }

  std::vector<Spec> infer(const std::vector<Spec>& inputs, const Lengths&) override {
    require_inputs(inputs, 1, 1);
    expect_floats(inputs[0], 4);
    return {infer_images(inputs[0], inputs[0].shape.back())};
  }

  void run(const Call& call) const override {
    const Shape& images = call.inputs[0].shape();
    ferrule_pooling_args args = {};
    args.kind = kind_;
    args.layout = FERRULE_CHANNELS_LAST;
    args.count_padding = counts_padding_;
    args.input = call.inputs[0].as<float>();
    args.output = call.outputs[0].as<float>();
    args.window = window_over(images);
    args.pad_bottom = pad_bottom_;
    args.pad_right = pad_right_;
    args.channels = args.input_stride = args.output_stride = images[3];
    require_ok(ferrule_pooling(&args, nullptr, call.pool));
  }

 private:
  int kind_;
  bool counts_padding_;
};

}  // namespace

std::unique_ptr<Op> make_pooling(const Node& node) { return std::make_unique<Pooling>(node); }

}  // namespace ferrule::executor
