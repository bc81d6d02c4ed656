// Selective scan over the names of simd/README.md; the lanes are channels. Included by the file of each
// instruction set, which states before it:
//   F32 power_of_two(F32 x, F32 y)  2^(x * y), for |x| and |y| up to kLargest; NaN in, NaN out

namespace {

constexpr size_t kSteps = FERRULE_SCAN_STEPS;

// Memory of a thread: what the present steps of a block need.
struct Scratch {
  float* input;  // [kSteps][kTile]
  float* delta;  // [kSteps][kTile], then y, then gate
  float* decay;  // [states][kTile], a / ln 2
  float* state;  // [states][kTile]
};

// ln(1 + e^x) = max(x, 0) + ln(1 + e), e = e^-|x|, the logarithm as 2 artanh(e / (2 + e)), whose argument is
// at most 1/3, so that small results keep their digits.
inline F32 softplus(F32 x) {
  const F32 e = power_of_two(abs(x), splat(-1.44269504f));
  const F32 s = div(e, add(e, splat(2.0f)));
  const F32 square = mul(s, s);
  F32 p = splat(0.14089168f);
  p = fma(p, square, splat(0.13980301f));
  p = fma(p, square, splat(0.20012455f));
  p = fma(p, square, splat(0.33333157f));
  p = fma(p, square, splat(1.0f));
  return keep_nan(x, fma(add(s, s), p, max(x, zeros())));
}

void prepare_delta(const ferrule_selective_scan_args& args, const Block& block, size_t steps, float* delta) {
  float bias[kTile] = {};
  for (size_t i = 0; args.delta_bias && i < block.count; ++i) bias[i] = args.delta_bias[block.channel + i];
  for (size_t t = 0; t < steps; ++t, delta += kTile) {
    for (size_t lane = 0; lane < block.count; lane += kLanes) {
      F32 d = add(load(delta + lane), load(bias + lane));
      if (args.softplus) d = softplus(d);
      store(delta + lane, min(splat(kLargest), d));
    }
  }
}

// One step of kLanes channels; returns y. The pointers are those of the lanes.
inline F32 step_lanes(F32 u, F32 delta, const float* decay, float* state, const float* b, size_t b_stride,
                      const float* c, size_t c_stride, size_t states) {
  const F32 drive = mul(delta, u);
  F32 y = zeros();
#pragma GCC unroll 4
  for (size_t n = 0; n < states; ++n) {
    const F32 kept = mul(load(state + n * kTile), power_of_two(delta, load(decay + n * kTile)));
    const F32 h = fma(drive, splat(b[n * b_stride]), kept);
    store(state + n * kTile, h);
    y = fma(h, splat(c[n * c_stride]), y);
  }
  return y;
}

// Steps [first, first + steps): input and delta of the scratch become y.
void scan_steps(const ferrule_selective_scan_args& args, const Block& block, size_t first, size_t steps,
                const Scratch& scratch) {
  const ferrule_scan_group_strides& b = args.b_strides;
  const ferrule_scan_group_strides& c = args.c_strides;
  float skip[kTile] = {};
  for (size_t i = 0; args.skip && i < block.count; ++i) skip[i] = args.skip[block.channel + i];
  for (size_t lane = 0; lane < block.count; lane += kLanes) {
    for (size_t t = 0; t < steps; ++t) {
      const F32 u = load(scratch.input + t * kTile + lane);
      float* delta = scratch.delta + t * kTile + lane;
      const F32 y = step_lanes(u, load(delta), scratch.decay + lane, scratch.state + lane,
                               args.b + offset_of(b, block) + (first + t) * b.step, b.state,
                               args.c + offset_of(c, block) + (first + t) * c.step, c.state, args.states);
      store(delta, fma(u, load(skip + lane), y));
    }
  }
}

// z / (1 + e^-z); beyond 100 that is z.
inline F32 silu_of_gate(F32 z) {
  const F32 e = power_of_two(min(splat(100.0f), z), splat(-1.44269504f));
  return div(z, add(splat(1.0f), e));
}

void multiply_by_gate(float* y, const float* gate, size_t steps, size_t channels) {
  for (size_t t = 0; t < steps; ++t, y += kTile, gate += kTile) {
    for (size_t lane = 0; lane < channels; lane += kLanes)
      store(y + lane, mul(load(y + lane), silu_of_gate(load(gate + lane))));
  }
}

inline Place place_of(const ferrule_scan_strides& strides) { return {strides.step, strides.channel}; }

void scan_block(const ferrule_selective_scan_args& args, const Block& block, const Scratch& scratch) {
  for (size_t t = 0; t < args.length; t += kSteps) {
    const size_t steps = at_most(args.length - t, kSteps);
    const auto from = [&](const float* base, const ferrule_scan_strides& strides) {
      return base + offset_of(strides, block) + t * strides.step;
    };
    read_tile(from(args.input, args.input_strides), place_of(args.input_strides), steps, block.count,
              scratch.input);
    read_tile(from(args.delta, args.delta_strides), place_of(args.delta_strides), steps, block.count,
              scratch.delta);
    prepare_delta(args, block, steps, scratch.delta);
    scan_steps(args, block, t, steps, scratch);
    if (args.gate) {
      read_tile(from(args.gate, args.gate_strides), place_of(args.gate_strides), steps, block.count,
                scratch.input);
      multiply_by_gate(scratch.delta, scratch.input, steps, block.count);
    }
    write_tile(args.output + offset_of(args.output_strides, block) + t * args.output_strides.step,
               place_of(args.output_strides), steps, block.count, scratch.delta);
  }
}

void selective_scan(const ferrule_selective_scan_args& args, size_t begin, size_t end, void* memory) {
  const size_t states = args.states;
  auto* floats = static_cast<float*>(memory);
  const Scratch scratch = {floats, floats + kSteps * kTile, floats + 2 * kSteps * kTile,
                           floats + 2 * kSteps * kTile + states * kTile};
  const Place by_state = {1, states};
  for (size_t unit = begin; unit < end; ++unit) {
    const Block block = find_block(args, unit);
    read_tile(args.a + block.channel * states, by_state, states, block.count, scratch.decay);
    for (size_t n = 0; n < states; ++n) {
      for (size_t lane = 0; lane < block.count; lane += kLanes) {
        float* decay = scratch.decay + n * kTile + lane;
        store(decay, max(splat(-kLargest), min(splat(kLargest), mul(load(decay), splat(1.44269504f)))));
      }
    }
    const size_t state = (block.batch * args.channels + block.channel) * states;
    if (args.initial_state) {
      read_tile(args.initial_state + state, by_state, states, block.count, scratch.state);
    } else {
      for (size_t i = 0; i < states * kTile; i += kLanes) store(scratch.state + i, zeros());
    }
    scan_block(args, block, scratch);
    if (args.final_state) write_tile(args.final_state + state, by_state, states, block.count, scratch.state);
  }
}

}  // namespace
