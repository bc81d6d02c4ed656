#include "executor/plan.h"

#include <algorithm>
#include <numeric>

#include "ferrule/arena.h"

namespace ferrule::executor {

namespace {

// Memory that one value, or several one after another, has from step `begin` to step `end`, both included: of
// the arena, or of a state.
struct Block {
  size_t bytes, begin, end;
  size_t uses_left;
  bool is_kept;  // an output or update: alive to the end
  size_t offset = 0;
};

size_t round_up(size_t bytes) {
  if (bytes > SIZE_MAX / 2) throw Error("FER-NAT-005", "The program needs more memory than can be counted.");
  return (bytes + FERRULE_ALIGNMENT - 1) / FERRULE_ALIGNMENT * FERRULE_ALIGNMENT;
}

class Planner {
 public:
  Planner(const Entry& entry, const Graph& graph, const Lengths& lengths, size_t threads)
      : entry_(entry), graph_(graph), threads_(threads) {
    plan_.lengths = lengths;
    plan_.specs.resize(entry.values);
    plan_.homes.resize(entry.values);
  }

  Plan make() {
    count_uses();
    for (size_t i = 0; i < entry_.inputs.size(); ++i) add_input(i);
    for (size_t i = 0; i < entry_.steps.size(); ++i) add_step(i);
    check_updates();
    find_rescues();
    find_outputs();
    place();
    for (Home& home : plan_.homes) {
      if (home.kind == Home::Kind::kArena) home.index = blocks_[home.index].offset;
    }
    for (Plan::Rescue& rescue : plan_.rescues) rescue.offset = blocks_[rescue.offset].offset;
    return std::move(plan_);
  }

 private:
  void count_uses() {
    uses_.assign(entry_.values, 0);
    is_kept_.assign(entry_.values, false);
    states_.assign(graph_.states.size(), Block{0, 0, 0, 0, false});
    is_updated_.assign(graph_.states.size(), false);
    for (const Step& step : entry_.steps) {
      for (const Source& source : step.inputs) {
        if (source.kind == Source::Kind::kValue) ++uses_[source.index];
        if (source.kind == Source::Kind::kState) ++states_[source.index].uses_left;
      }
    }
    for (const OutputPort& output : entry_.outputs) is_kept_[output.value] = true;
    for (const Update& update : entry_.updates) {
      is_kept_[update.value] = true;
      is_updated_[update.state] = true;
    }
  }

  void add_input(size_t i) {
    Spec& spec = plan_.specs[i];
    spec.dtype = entry_.inputs[i].dtype;
    for (const Expression& axis : entry_.inputs[i].shape) {
      const int64_t length = axis.evaluate(plan_.lengths);
      if (length < 0)
        throw Error("FER-NAT-005", "Input " + entry_.inputs[i].name + " has a negative length.");
      spec.shape.push(static_cast<size_t>(length));
    }
    spec.shape.check();
    plan_.homes[i] = {Home::Kind::kInput, i};
  }

  Spec spec_of(const Source& source) const {
    switch (source.kind) {
      case Source::Kind::kValue:
        return plan_.specs[source.index];
      case Source::Kind::kConstant:
        return graph_.constants[source.index].spec;
      case Source::Kind::kState:
        return graph_.states[source.index].initial.spec;
    }
    return {};
  }

  Home home_of(const Source& source) const {
    switch (source.kind) {
      case Source::Kind::kValue:
        return plan_.homes[source.index];
      case Source::Kind::kConstant:
        return {Home::Kind::kConstant, source.index};
      case Source::Kind::kState:
        return {Home::Kind::kState, source.index};
    }
    return {};
  }

  void add_step(size_t number) {
    const Step& step = entry_.steps[number];
    std::vector<Spec> inputs;
    for (const Source& source : step.inputs) inputs.push_back(spec_of(source));
    const std::vector<Spec> results = step.op->infer(inputs, plan_.lengths);
    if (results.size() != step.results)
      throw Error("FER-NAT-003", step.place + ": the number of its results.");
    plan_.scratch_bytes = std::max(plan_.scratch_bytes, step.op->scratch(inputs, threads_));
    for (size_t i = 0; i < results.size(); ++i) {
      results[i].shape.check();
      plan_.specs[step.first_result + i] = results[i];
    }
    const size_t reused = find_reused(step);
    for (size_t i = 0; i < results.size(); ++i) {
      const size_t value = step.first_result + i;
      if (i == 0 && reused < step.inputs.size())
        share(home_of(step.inputs[reused]), value, number);
      else
        open_block(value, number);
    }
    for (const Source& source : step.inputs) {
      Block* block = block_of(home_of(source));
      if (!block) continue;
      --block->uses_left;
      block->end = std::max(block->end, number);
    }
  }

  // NULL for the memory of inputs and constants, which nothing changes.
  Block* block_of(Home home) {
    if (home.kind == Home::Kind::kArena) return &blocks_[home.index];
    return home.kind == Home::Kind::kState ? &states_[home.index] : nullptr;
  }

  // The input whose memory the first result takes over; the number of inputs where there is none.
  size_t find_reused(const Step& step) {
    if (step.op->is_view()) return 0;
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      const Home home = home_of(step.inputs[i]);
      const Block* block = block_of(home);
      if (!step.op->may_overwrite(i) || !block) continue;
      if (home.kind == Home::Kind::kState && !(step.op->is_write() && is_updated_[home.index])) continue;
      const size_t bytes = spec_of(step.inputs[i]).bytes();
      if (block->uses_left == 1 && !block->is_kept && bytes == plan_.specs[step.first_result].bytes())
        return i;
    }
    return step.inputs.size();
  }

  void share(Home home, size_t value, size_t number) {
    plan_.homes[value] = home;
    Block* block = block_of(home);
    if (!block) return;
    block->uses_left += uses_[value];
    block->is_kept = block->is_kept || is_kept_[value];
    block->end = std::max(block->end, number);
  }

  void open_block(size_t value, size_t number) {
    plan_.homes[value] = {Home::Kind::kArena, blocks_.size()};
    blocks_.push_back({round_up(plan_.specs[value].bytes()), number, number, uses_[value], is_kept_[value]});
  }

  void check_updates() const {
    for (const Update& update : entry_.updates) {
      const Spec &state = graph_.states[update.state].initial.spec, &value = plan_.specs[update.value];
      if (state.dtype != value.dtype || state.shape != value.shape) {
        throw Error("FER-NAT-004", "State " + graph_.states[update.state].name + " is " + state.shape.text() +
                                       " and would be " + value.shape.text() + ".");
      }
    }
  }

  // Whether the state gets another content when the steps are done.
  bool changes_at_end(size_t state) const {
    for (const Update& update : entry_.updates) {
      const Home home = plan_.homes[update.value];
      if (update.state == state && !(home.kind == Home::Kind::kState && home.index == state)) return true;
    }
    return false;
  }

  void find_rescues() {
    std::vector<size_t> values;
    for (const OutputPort& output : entry_.outputs) values.push_back(output.value);
    for (const Update& update : entry_.updates) values.push_back(update.value);
    for (const size_t value : values) {
      const Home home = plan_.homes[value];
      if (home.kind != Home::Kind::kState || !changes_at_end(home.index)) continue;
      plan_.rescues.push_back({value, blocks_.size()});
      const size_t end = entry_.steps.size();
      blocks_.push_back({round_up(plan_.specs[value].bytes()), end, end, 0, true});
    }
  }

  void find_outputs() {
    std::vector<size_t> owners(blocks_.size(), Plan::kNone);
    for (size_t i = 0; i < entry_.outputs.size(); ++i) {
      const Home home = plan_.homes[entry_.outputs[i].value];
      if (home.kind == Home::Kind::kArena && owners[home.index] == Plan::kNone) owners[home.index] = i;
    }
    plan_.outputs.assign(entry_.values, Plan::kNone);
    for (size_t value = 0; value < entry_.values; ++value) {
      const Home home = plan_.homes[value];
      if (home.kind == Home::Kind::kArena) plan_.outputs[value] = owners[home.index];
    }
  }

  void place() {
    for (Block& block : blocks_) {
      if (block.is_kept) block.end = entry_.steps.size();
    }
    std::vector<size_t> order(blocks_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [this](size_t a, size_t b) { return blocks_[a].bytes > blocks_[b].bytes; });
    std::vector<const Block*> placed;  // by offset
    for (const size_t index : order) {
      Block& block = blocks_[index];
      size_t offset = 0;
      for (const Block* other : placed) {
        if (other->begin > block.end || other->end < block.begin) continue;
        if (offset + block.bytes <= other->offset) break;
        offset = std::max(offset, other->offset + other->bytes);
      }
      block.offset = offset;
      plan_.values_bytes = std::max(plan_.values_bytes, round_up(offset + block.bytes));
      const auto after = std::upper_bound(placed.begin(), placed.end(), offset,
                                          [](size_t wanted, const Block* b) { return wanted < b->offset; });
      placed.insert(after, &block);
    }
    for (size_t step = 0; step <= entry_.steps.size(); ++step) {
      size_t live = 0;
      for (const Block& block : blocks_) live += block.begin <= step && step <= block.end ? block.bytes : 0;
      plan_.live_bytes = std::max(plan_.live_bytes, live);
    }
    plan_.scratch_bytes = round_up(plan_.scratch_bytes);
  }

  const Entry& entry_;
  const Graph& graph_;
  size_t threads_;
  Plan plan_;
  std::vector<size_t> uses_;
  std::vector<bool> is_kept_;
  std::vector<Block> blocks_, states_;
  std::vector<bool> is_updated_;  // of each state
};

}  // namespace

Plan make_plan(const Entry& entry, const Graph& graph, const Lengths& lengths, size_t threads) {
  return Planner(entry, graph, lengths, threads).make();
}

}  // namespace ferrule::executor
