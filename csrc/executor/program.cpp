#include "executor/program.h"

#include <string.h>

#include <algorithm>
#include <chrono>

#include "executor/file.h"

namespace ferrule::executor {

namespace {

constexpr size_t kMostPrepared = 8;  // plans that are kept for each entry point

std::shared_ptr<unsigned char> copy_of(const Constant& constant) {
  const size_t bytes = constant.spec.bytes();
  std::shared_ptr<unsigned char> memory = allocate(bytes);
  memcpy(memory.get(), constant.memory.get(), bytes);
  return memory;
}

// Marks the program as at work while it lives.
class Turn {
 public:
  explicit Turn(std::atomic<bool>& busy) : busy_(busy) {
    if (busy_.exchange(true, std::memory_order_acquire)) {
      throw Error("FER-NAT-007", "The program is in use by another thread; open one for each thread.");
    }
  }
  ~Turn() { busy_.store(false, std::memory_order_release); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::atomic<bool>& busy_;
};

}  // namespace

// A plan, and the arrays of each step as it gives them. Pointers into the arena hold until the arena grows.
struct Program::Prepared {
  Plan plan;
  std::vector<std::vector<Array>> inputs, results;  // of each step
};

Program::Program(const std::string& path, size_t threads) {
  if (threads > 1) {
    pool_.reset(ferrule_pool_create(threads));
    if (!pool_) throw Error("FER-NAT-006", "The system starts no " + std::to_string(threads) + " threads.");
  }
  const ProgramFile file(path);
  graph_ = read_graph(file.read_text("program.json"), file, pool_.get());
  for (const State& state : graph_.states) states_.push_back(copy_of(state.initial));
  prepared_.resize(graph_.entries.size());
}

Program::~Program() { ferrule_arena_destroy(&arena_); }

size_t Program::find_entry(const std::string& name) const {
  for (size_t i = 0; i < graph_.entries.size(); ++i) {
    if (graph_.entries[i].name == name) return i;
  }
  throw Error("FER-NAT-004", "The program has no entry point " + name + ".");
}

const Plan* Program::last_plan(size_t entry) const {
  return prepared_[entry].empty() ? nullptr : &prepared_[entry].front()->plan;
}

void Program::reset() {
  const Turn turn(busy_);
  for (size_t i = 0; i < states_.size(); ++i) {
    memcpy(states_[i].get(), graph_.states[i].initial.memory.get(), graph_.states[i].initial.spec.bytes());
  }
}

// The lengths of dynamic axes as the inputs have them.
Lengths Program::bind_lengths(const Entry& entry, const std::vector<Array>& inputs) const {
  if (inputs.size() != entry.inputs.size()) {
    throw Error("FER-NAT-004", "Entry point " + entry.name + " takes " + std::to_string(entry.inputs.size()) +
                                   " inputs, not " + std::to_string(inputs.size()) + ".");
  }
  Lengths lengths(entry.dims.size(), -1);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const InputPort& port = entry.inputs[i];
    const Shape& shape = inputs[i].shape();
    if (inputs[i].spec.dtype != port.dtype || shape.rank != port.shape.size()) {
      throw Error("FER-NAT-004", "Input " + port.name + " is " + name_of(inputs[i].spec.dtype) + " of " +
                                     std::to_string(shape.rank) + " axes; " + name_of(port.dtype) + " of " +
                                     std::to_string(port.shape.size()) + " is needed.");
    }
    for (size_t axis = 0; axis < shape.rank; ++axis) {
      if (port.axes[axis] == InputPort::kFixed) continue;
      int64_t& length = lengths[port.axes[axis]];
      if (length < 0) length = static_cast<int64_t>(shape[axis]);
    }
  }
  for (size_t dim = 0; dim < lengths.size(); ++dim) {
    if (lengths[dim] < entry.dims[dim].min || lengths[dim] > entry.dims[dim].max) {
      throw Error("FER-NAT-004", "Axis " + entry.dims[dim].name + " has length " +
                                     std::to_string(lengths[dim]) + "; " +
                                     std::to_string(entry.dims[dim].min) + " to " +
                                     std::to_string(entry.dims[dim].max) + " are allowed.");
    }
  }
  return lengths;
}

std::unique_ptr<Program::Prepared> Program::build(size_t number, Lengths lengths) {
  const Entry& entry = graph_.entries[number];
  auto prepared = std::make_unique<Prepared>();
  prepared->plan = make_plan(entry, graph_, lengths, ferrule_pool_threads(pool_.get()));
  const Plan& plan = prepared->plan;
  for (size_t s = 0; s < entry.steps.size(); ++s) {
    const Step& step = entry.steps[s];
    std::vector<Array> inputs, results;
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      const Source& source = step.inputs[i];
      if (source.kind == Source::Kind::kConstant) {
        const Constant& constant = graph_.constants[source.index];
        inputs.push_back({constant.spec, constant.memory.get()});
      } else if (source.kind == Source::Kind::kState) {
        inputs.push_back({graph_.states[source.index].initial.spec, states_[source.index].get()});
      } else {
        inputs.push_back({plan.specs[source.index], nullptr});
      }
    }
    for (size_t i = 0; i < step.results; ++i) results.push_back({plan.specs[step.first_result + i], nullptr});
    prepared->inputs.push_back(std::move(inputs));
    prepared->results.push_back(std::move(results));
  }
  return prepared;
}

Program::Prepared& Program::prepare(size_t number, const std::vector<Array>& inputs) {
  const Entry& entry = graph_.entries[number];
  const Lengths lengths = bind_lengths(entry, inputs);
  auto& known = prepared_[number];
  auto found = std::find_if(known.begin(), known.end(),
                            [&lengths](const auto& prepared) { return prepared->plan.lengths == lengths; });
  if (found == known.end()) {
    known.insert(known.begin(), build(number, lengths));
    if (known.size() > kMostPrepared) known.pop_back();
  } else if (found != known.begin()) {
    std::rotate(known.begin(), found, found + 1);
  }
  Prepared& prepared = *known.front();
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].shape() != prepared.plan.specs[i].shape) {
      throw Error("FER-NAT-004", "Input " + entry.inputs[i].name + " has shape " + inputs[i].shape().text() +
                                     "; " + prepared.plan.specs[i].shape.text() + " is needed.");
    }
  }
  return prepared;
}

std::vector<Spec> Program::infer(size_t number, const std::vector<Array>& inputs) {
  const Turn turn(busy_);
  return output_specs(number, prepare(number, inputs).plan);
}

std::vector<Spec> Program::output_specs(size_t number, const Plan& plan) const {
  std::vector<Spec> specs;
  for (const OutputPort& output : graph_.entries[number].outputs) specs.push_back(plan.specs[output.value]);
  return specs;
}

void Program::run(size_t number, const std::vector<Array>& inputs, const Take& take, double* seconds) {
  const Turn turn(busy_);
  run_prepared(number, prepare(number, inputs), inputs, {}, take, seconds);
}

void Program::run_into(size_t number, const std::vector<Array>& inputs, const Place& place, double* seconds) {
  const Turn turn(busy_);
  Prepared& prepared = prepare(number, inputs);
  const std::vector<void*> memory = place(output_specs(number, prepared.plan));
  const auto fill = [&memory](const std::vector<Array>& results) {
    for (size_t i = 0; i < results.size(); ++i) {
      const size_t bytes = results[i].spec.bytes();
      if (bytes && results[i].data != memory[i]) memcpy(memory[i], results[i].data, bytes);
    }
  };
  run_prepared(number, prepared, inputs, memory, fill, seconds);
}

// `memory`: of each output, or none.
void Program::run_prepared(size_t number, Prepared& prepared, const std::vector<Array>& inputs,
                           const std::vector<void*>& memory, const Take& take, double* seconds) {
  const Entry& entry = graph_.entries[number];
  const Plan& plan = prepared.plan;
  const size_t bytes = plan.values_bytes + plan.scratch_bytes;
  if (arena_.capacity < bytes) {
    ferrule_arena_destroy(&arena_);
    if (!ferrule_arena_create(&arena_, bytes)) {
      throw Error("FER-NAT-006",
                  "There is not enough memory for " + std::to_string(bytes) + " bytes of values.");
    }
  }
  const auto locate = [&](size_t value) -> void* {
    const Home home = plan.homes[value];
    switch (home.kind) {
      case Home::Kind::kArena:
        if (!memory.empty() && plan.outputs[value] != Plan::kNone) return memory[plan.outputs[value]];
        return arena_.memory + home.index;
      case Home::Kind::kInput:
        return inputs[home.index].data;
      case Home::Kind::kConstant:
        return graph_.constants[home.index].memory.get();
      case Home::Kind::kState:
        return states_[home.index].get();
    }
    return nullptr;
  };
  for (size_t s = 0; s < entry.steps.size(); ++s) {
    const Step& step = entry.steps[s];
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      if (step.inputs[i].kind == Source::Kind::kValue)
        prepared.inputs[s][i].data = locate(step.inputs[i].index);
    }
    for (size_t i = 0; i < step.results; ++i) prepared.results[s][i].data = locate(step.first_result + i);
  }
  run_steps(entry, prepared, seconds);
  for (const Plan::Rescue& rescue : plan.rescues) {
    const size_t size = plan.specs[rescue.value].bytes();
    if (size) memcpy(arena_.memory + rescue.offset, locate(rescue.value), size);
  }
  const auto locate_result = [&](size_t value) -> void* {
    for (const Plan::Rescue& rescue : plan.rescues) {
      if (rescue.value == value) return arena_.memory + rescue.offset;
    }
    return locate(value);
  };
  std::vector<Array> outputs;
  for (const OutputPort& output : entry.outputs) {
    outputs.push_back({plan.specs[output.value], locate_result(output.value)});
  }
  take(outputs);
  for (const Update& update : entry.updates) {
    void* state = states_[update.state].get();
    if (void* value = locate_result(update.value); value != state)
      memcpy(state, value, plan.specs[update.value].bytes());
  }
}

void Program::run_steps(const Entry& entry, Prepared& prepared, double* seconds) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point start = seconds ? Clock::now() : Clock::time_point();
  for (size_t s = 0; s < entry.steps.size(); ++s) {
    const Step& step = entry.steps[s];
    if (!step.op->is_view()) {
      const Call call = {prepared.inputs[s].data(),
                         prepared.results[s].data(),
                         prepared.inputs[s].size(),
                         prepared.results[s].size(),
                         arena_.memory + prepared.plan.values_bytes,
                         pool_.get(),
                         &prepared.plan.lengths};
      step.op->run(call);
    }
    if (!seconds) continue;
    const Clock::time_point end = Clock::now();
    seconds[s] = std::chrono::duration<double>(end - start).count();
    start = end;
  }
}

}  // namespace ferrule::executor
