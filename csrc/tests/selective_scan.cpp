#include "ferrule/selective_scan.h"

#include "ferrule/arena.h"
#include "kernels/declarations.h"
#include "tests/rig.h"

namespace ferrule::tests {

namespace {

// Memory for a kernel's scratch, aligned as it asks.
class Scratch {
 public:
  Scratch(const ferrule_selective_scan_args& args, size_t threads) {
    ferrule_arena_create(&arena_, ferrule_selective_scan_scratch(&args, threads));
  }
  ~Scratch() { ferrule_arena_destroy(&arena_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* memory() { return arena_.memory; }

 private:
  ferrule_arena arena_;
};

// A layout of [batch][length][channels] elements with gaps, the channels or the steps next to each other or
// neither.
ferrule_scan_strides draw_strides(Random& random, size_t length, size_t channels, size_t* size,
                                  size_t batch) {
  const size_t gap = random.size(2);
  ferrule_scan_strides strides = {};
  switch (random.integer(0, 2)) {
    case 0:
      strides = {0, channels + gap, 1};
      strides.batch = length * strides.step;
      break;
    case 1:
      strides = {0, 1, length + gap};
      strides.batch = channels * strides.channel;
      break;
    default:
      strides = {0, 2, 2 * length + gap};
      strides.batch = channels * strides.channel;
  }
  *size = batch * strides.batch;
  return strides;
}

Buffer<float> magnitudes(const Buffer<float>& values) {
  Buffer<float> result = values;
  for (size_t i = 0; i < result.size(); ++i) result[i] = fabsf(result[i]);
  return result;
}

}  // namespace

void test_selective_scan(Rig& rig, ferrule_selective_scan_fn* kernel) {
  Random& random = rig.random;
  ferrule_selective_scan_args args = {};
  args.batch = random.size(2);
  args.length = random.chance(3) ? 1 : random.chance(10) ? random.size(150) : random.size(20);
  args.groups = static_cast<size_t>(random.integer(1, 2));
  args.channels = args.groups * (random.chance(8) ? random.size(140) : random.size(34));
  args.states = random.chance(2) ? 16 : random.size(20);
  args.softplus = random.chance(2);
  size_t size = 0, delta_size = 0, gate_size = 0, output_size = 0;
  args.input_strides = draw_strides(random, args.length, args.channels, &size, args.batch);
  args.delta_strides = draw_strides(random, args.length, args.channels, &delta_size, args.batch);
  args.gate_strides = draw_strides(random, args.length, args.channels, &gate_size, args.batch);
  args.output_strides = draw_strides(random, args.length, args.channels, &output_size, args.batch);
  const size_t shared = args.groups * args.length * args.states;
  args.b_strides = {shared, args.length * args.states, args.states, 1};
  args.c_strides = {shared, args.length * args.states, 1, args.length};
  const bool in_place = random.chance(4), has_state = random.chance(2), keeps_state = random.chance(2);
  if (in_place) output_size = size, args.output_strides = args.input_strides;
  rig.describe("batch %zu length %zu channels %zu in %zu states %zu softplus %d steps %zu %zu in place %d",
               args.batch, args.length, args.channels, args.groups, args.states, args.softplus,
               args.input_strides.step, args.output_strides.step, in_place);

  Buffer<float> input = draw_normal(random, size), delta = draw_normal(random, delta_size);
  for (size_t i = 0; i < delta_size; ++i) {
    delta[i] = args.softplus ? 2 * delta[i] - 1 : fabsf(delta[i]);
    if (random.chance(100)) delta[i] = args.softplus ? random.uniform(-90, 90) : random.uniform(0, 1e6f);
  }
  Buffer<float> a = draw_normal(random, args.channels * args.states);
  for (size_t i = 0; i < a.size(); ++i) a[i] = -expf(a[i]);
  const Buffer<float> b = draw_normal(random, args.batch * shared),
                      c = draw_normal(random, args.batch * shared);
  const Buffer<float> skip = draw_normal(random, args.channels), bias = draw_normal(random, args.channels);
  const Buffer<float> gate = draw_normal(random, gate_size);
  const size_t states = args.batch * args.channels * args.states;
  Buffer<float> state = draw_normal(random, states), final_state(random, states);
  const Buffer<float> original = input;
  Buffer<float> output(random, output_size);
  Buffer<float> want = in_place ? input : output, want_state = final_state;

  args.delta = delta.data();
  args.a = a.data();
  args.delta_bias = random.chance(2) && args.softplus ? bias.data() : nullptr;
  args.skip = random.chance(2) ? skip.data() : nullptr;
  args.gate = random.chance(2) ? gate.data() : nullptr;
  args.b = b.data();
  args.c = c.data();
  args.initial_state = has_state ? state.data() : nullptr;
  args.input = original.data();
  args.output = want.data();
  args.final_state = keeps_state ? want_state.data() : nullptr;
  const size_t units = ferrule_selective_scan_units(&args);
  Scratch scratch(args, 1);
  ferrule_selective_scan_scalar(&args, 0, units, scratch.memory());

  args.input = in_place ? input.data() : original.data();
  args.output = in_place ? input.data() : output.data();
  args.final_state = keeps_state ? final_state.data() : nullptr;
  kernel(&args, 0, units, scratch.memory());

  // The same sums of magnitudes, of which rounding errors are a fraction.
  const Buffer<float> sizes[] = {magnitudes(original), magnitudes(b), magnitudes(c), magnitudes(skip),
                                 magnitudes(state)};
  Buffer<float> bound = in_place ? original : output, state_bound = final_state;
  args.input = sizes[0].data();
  args.b = sizes[1].data();
  args.c = sizes[2].data();
  if (args.skip) args.skip = sizes[3].data();
  if (args.initial_state) args.initial_state = sizes[4].data();
  args.output = bound.data();
  if (keeps_state) args.final_state = state_bound.data();
  ferrule_selective_scan_scalar(&args, 0, units, scratch.memory());

  const Buffer<float>& got = in_place ? input : output;
  for (size_t i = 0; i < output_size && !rig.failed(); ++i) {
    rig.expect_close("output", &got[i], &want[i], 1, 1e-37f + 1e-5f * fabsf(bound[i]), 0);
  }
  for (size_t i = 0; i < states && !rig.failed(); ++i) {
    rig.expect_close("state", &final_state[i], &want_state[i], 1, 1e-37f + 1e-5f * fabsf(state_bound[i]), 0);
  }
  rig.expect(got.intact() && final_state.intact(), "wrote past its output");
}

namespace {

struct Example {
  Random random{3};
  ferrule_selective_scan_args args = {};
  std::vector<Buffer<float>> buffers;

  const float* draw(size_t count) {
    buffers.push_back(draw_normal(random, count));
    return buffers.back().data();
  }
  Example(size_t batch, size_t length, size_t channels, size_t states) {
    buffers.reserve(8);
    args.batch = batch, args.length = length, args.channels = channels, args.states = states;
    args.groups = args.softplus = 1;
    const ferrule_scan_strides strides = {length * channels, channels, 1};
    args.input_strides = args.delta_strides = args.gate_strides = args.output_strides = strides;
    args.b_strides = args.c_strides = {length * states, 0, states, 1};
    args.input = draw(batch * length * channels);
    args.delta = draw(batch * length * channels);
    Buffer<float> a = draw_normal(random, channels * states);
    for (size_t i = 0; i < a.size(); ++i) a[i] = -expf(a[i]);
    buffers.push_back(a);
    args.a = buffers.back().data();
    args.b = draw(batch * length * states);
    args.c = draw(batch * length * states);
    args.gate = draw(batch * length * channels);
  }
};

bool refuses() {
  Example example(1, 2, 3, 4);
  float output[6] = {};
  example.args.output = output;
  Scratch scratch(example.args, 1);
  const auto is = [&](ferrule_status status, auto change, size_t offset = 0) {
    ferrule_selective_scan_args args = example.args;
    change(args);
    return ferrule_selective_scan(&args, nullptr, nullptr, static_cast<char*>(scratch.memory()) + offset) ==
           status;
  };
  using Args = ferrule_selective_scan_args;
  const auto nothing = [](Args&) {};
  return is(FERRULE_OK, nothing) && is(FERRULE_BAD_LAYOUT, nothing, 4) &&
         ferrule_selective_scan(&example.args, nullptr, nullptr, nullptr) == FERRULE_BAD_SHAPE &&
         ferrule_selective_scan(&example.args, "none", nullptr, scratch.memory()) == FERRULE_BAD_ISA &&
         is(FERRULE_OK, [](Args& args) { args.batch = 0, args.input = nullptr; }) &&
         is(FERRULE_OK, [](Args& args) { args.length = 0, args.input = nullptr; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.groups = 2; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.groups = 0; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.delta = nullptr; }) &&
         is(FERRULE_BAD_SHAPE, [](Args& args) { args.a = nullptr; }) &&
         is(FERRULE_BAD_LAYOUT, [](Args& args) { args.output_strides.step = 0; }) &&
         is(FERRULE_TOO_LARGE, [](Args& args) { args.batch = SIZE_MAX / 2; }) &&
         is(FERRULE_TOO_LARGE, [](Args& args) { args.states = SIZE_MAX / 2; }) &&
         is(FERRULE_TOO_LARGE, [](Args& args) { args.input_strides.channel = SIZE_MAX / 2; });
}

// One scan over all steps against one step at a time with the state passed on.
bool steps_agree() {
  Example example(1, 9, 40, 16);
  Random& random = example.random;
  Buffer<float> whole(random, 9 * 40), single(random, 9 * 40), state(random, 40 * 16);
  ferrule_selective_scan_args args = example.args;
  Scratch scratch(args, 1);
  args.output = whole.data();
  if (ferrule_selective_scan(&args, nullptr, nullptr, scratch.memory()) != FERRULE_OK) return false;
  args.length = 1;
  args.output = single.data();
  args.initial_state = args.final_state = state.data();
  for (size_t t = 0; t < 9; ++t) {
    if (ferrule_selective_scan(&args, nullptr, nullptr, scratch.memory()) != FERRULE_OK) return false;
    args.input += 40, args.delta += 40, args.gate += 40, args.output += 40;
    args.b += 16, args.c += 16;
  }
  return memcmp(whole.data(), single.data(), 9 * 40 * sizeof(float)) == 0;
}

}  // namespace

bool selective_scan_op_passes() {
  Example example(2, 33, 200, 16);
  const size_t count = 2 * 33 * 200;
  Buffer<float> want(example.random, count), got(example.random, count);
  ferrule_pool* pool = ferrule_pool_create(3);
  Scratch scratch(example.args, 3);
  example.args.output = want.data();
  bool ok = ferrule_selective_scan(&example.args, nullptr, nullptr, scratch.memory()) == FERRULE_OK;
  example.args.output = got.data();
  ok = ok && ferrule_selective_scan(&example.args, nullptr, pool, scratch.memory()) == FERRULE_OK;
  ferrule_pool_destroy(pool);
  return ok && memcmp(got.data(), want.data(), count * sizeof(float)) == 0 && steps_agree() && refuses();
}

}  // namespace ferrule::tests
