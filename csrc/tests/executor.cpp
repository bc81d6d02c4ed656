#include "tests/executor.h"

#include <stdio.h>
#include <stdlib.h>

#include "executor/plan.h"
#include "ferrule/arena.h"

namespace ferrule::tests {

using executor::Array;
using executor::Call;
using executor::Entry;
using executor::Error;
using executor::Graph;
using executor::Home;
using executor::Lengths;
using executor::Plan;
using executor::Shape;
using executor::Source;
using executor::Spec;
using executor::Step;

namespace {

// Exactly `bytes` of them. FERRULE_ALIGNMENT-aligned.
std::shared_ptr<unsigned char> allocate(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, FERRULE_ALIGNMENT, bytes ? bytes : 1)) abort();
  memset(memory, 0xA5, bytes);
  return {static_cast<unsigned char*>(memory), free};
}

Array array_of(const Tensor& tensor) { return {tensor.spec, tensor.memory.get()}; }

class GraphRun {
 public:
  GraphRun(const Graph& graph, const std::vector<Tensor>& inputs, size_t threads)
      : graph_(graph), entry_(graph.entries[0]), inputs_(inputs), pool_(ferrule_pool_create(threads)) {
    for (const auto& state : graph.states)
      states_.push_back(copy({state.initial.spec, state.initial.memory.get()}));
    lengths_.assign(entry_.dims.size(), 0);
    for (size_t i = 0; i < inputs.size(); ++i) {
      for (size_t axis = 0; axis < inputs[i].spec.shape.rank; ++axis) {
        const size_t dim = entry_.inputs[i].axes[axis];
        if (dim != executor::InputPort::kFixed)
          lengths_[dim] = static_cast<int64_t>(inputs[i].spec.shape[axis]);
      }
    }
  }
  ~GraphRun() { ferrule_pool_destroy(pool_); }
  GraphRun(const GraphRun&) = delete;
  GraphRun& operator=(const GraphRun&) = delete;

  // As a program does; with `gives`, one whose caller has memory for the outputs.
  std::vector<Tensor> run_planned(bool gives) {
    plan_ = make_plan(entry_, graph_, lengths_, ferrule_pool_threads(pool_));
    given_.clear();
    for (const auto& output : entry_.outputs) {
      if (gives) given_.emplace_back(plan_.specs[output.value]);
    }
    for (size_t i = 0; i < states_.size(); ++i) states_[i] = initial(i);
    const auto arena = allocate(plan_.values_bytes), scratch = allocate(plan_.scratch_bytes);
    for (const Step& step : entry_.steps) {
      std::vector<Array> inputs, results;
      for (const Source& source : step.inputs) inputs.push_back(read(source, arena.get()));
      for (size_t i = 0; i < step.results; ++i) results.push_back(locate(step.first_result + i, arena.get()));
      if (!step.op->is_view()) run_step(step, inputs, results, scratch.get());
    }
    for (const Plan::Rescue& rescue : plan_.rescues) {
      const Array value = locate(rescue.value, arena.get());
      memcpy(arena.get() + rescue.offset, value.data, value.spec.bytes());
    }
    std::vector<Tensor> outputs;
    for (const size_t value : results()) {
      Array array = locate(value, arena.get());
      for (const Plan::Rescue& rescue : plan_.rescues) {
        if (rescue.value == value) array.data = arena.get() + rescue.offset;
      }
      outputs.push_back(copy(array));
    }
    return outputs;
  }

  // With memory of their own for all values.
  std::vector<Tensor> run_apart() {
    std::vector<Tensor> values = inputs_;
    for (const Step& step : entry_.steps) {
      std::vector<Spec> specs;
      std::vector<Array> inputs, results;
      std::vector<Tensor> copies;
      for (const Source& source : step.inputs) {
        copies.push_back(source.kind == Source::Kind::kValue   ? values[source.index]
                         : source.kind == Source::Kind::kState ? initial(source.index)
                                                               : copy(read(source, nullptr)));
        specs.push_back(copies.back().spec);
        inputs.push_back(array_of(copies.back()));
      }
      for (const Spec& spec : step.op->infer(specs, lengths_)) {
        values.emplace_back(spec);
        results.push_back(array_of(values.back()));
      }
      const auto scratch = allocate(step.op->scratch(specs, ferrule_pool_threads(pool_)));
      if (step.op->is_view())
        memcpy(results[0].data, inputs[0].data, results[0].spec.bytes());
      else
        run_step(step, inputs, results, scratch.get());
    }
    std::vector<Tensor> outputs;
    for (const size_t value : results()) outputs.push_back(values[value]);
    return outputs;
  }

 private:
  // Outputs, then updates.
  std::vector<size_t> results() const {
    std::vector<size_t> values;
    for (const auto& output : entry_.outputs) values.push_back(output.value);
    for (const auto& update : entry_.updates) values.push_back(update.value);
    return values;
  }

  void run_step(const Step& step, const std::vector<Array>& inputs, const std::vector<Array>& results,
                void* scratch) const {
    step.op->run({inputs.data(), results.data(), inputs.size(), results.size(), scratch, pool_, &lengths_});
  }

  static Tensor copy(const Array& array) {
    Tensor tensor(array.spec);
    if (array.spec.bytes()) memcpy(tensor.memory.get(), array.data, array.spec.bytes());
    return tensor;
  }

  Array read(const Source& source, unsigned char* arena) const {
    switch (source.kind) {
      case Source::Kind::kConstant:
        return {graph_.constants[source.index].spec, graph_.constants[source.index].memory.get()};
      case Source::Kind::kState:
        return array_of(states_[source.index]);
      default:
        return locate(source.index, arena);
    }
  }

  Tensor initial(size_t state) const {
    const auto& constant = graph_.states[state].initial;
    return copy({constant.spec, constant.memory.get()});
  }

  Array locate(size_t value, unsigned char* arena) const {
    const Home home = plan_.homes[value];
    const size_t output = home.kind == Home::Kind::kArena ? plan_.outputs[value] : Plan::kNone;
    if (!given_.empty() && output != Plan::kNone) return {plan_.specs[value], given_[output].memory.get()};
    void* data = home.kind == Home::Kind::kArena      ? arena + home.index
                 : home.kind == Home::Kind::kInput    ? inputs_[home.index].memory.get()
                 : home.kind == Home::Kind::kConstant ? graph_.constants[home.index].memory.get()
                                                      : states_[home.index].memory.get();
    return {plan_.specs[value], data};
  }

  const Graph& graph_;
  const Entry& entry_;
  const std::vector<Tensor>& inputs_;
  ferrule_pool* pool_;
  std::vector<Tensor> states_;  // as the planned run leaves them
  Lengths lengths_;
  Plan plan_;
  std::vector<Tensor> given_;  // memory of the outputs
};

}  // namespace

Shape shape_of(const std::vector<size_t>& dims) {
  Shape shape;
  for (const size_t dim : dims) shape.push(dim);
  return shape;
}

Tensor::Tensor(const Spec& what) : spec(what), memory(allocate(what.bytes())) {}

bool Tensor::operator==(const Tensor& other) const {
  return spec.dtype == other.spec.dtype && spec.shape == other.spec.shape &&
         memcmp(memory.get(), other.memory.get(), spec.bytes()) == 0;
}

executor::Constant TestConstants::read(const std::string& name, const executor::Allocate&) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw Error("FER-NAT-003", "There is no array " + name + ".");
  return {found->second.spec, found->second.memory};
}

size_t TestConstants::bytes() const {
  size_t total = 0;
  for (const auto& [name, tensor] : tensors_) total += tensor.spec.bytes();
  return total;
}

std::vector<Tensor> run_graph(const std::string& text, const std::vector<Tensor>& inputs,
                              const TestConstants& constants, size_t threads) {
  const Graph graph = executor::read_graph(text, constants);
  GraphRun run(graph, inputs, threads);
  std::vector<Tensor> given = run.run_planned(true), planned = run.run_planned(false);
  if (given != planned) {
    fprintf(stderr, "other results where the caller has memory for outputs: %s\n", text.c_str());
    abort();
  }
  if (planned != run.run_apart()) {
    fprintf(stderr, "other results where values have memory of their own: %s\n", text.c_str());
    abort();
  }
  return planned;
}

std::string graph_of(const std::string& attributes, const std::vector<Tensor>& inputs) {
  std::string ports, in;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string number = std::to_string(i), comma = i ? ", " : "";
    in += comma + number;
    ports += comma + R"({"name": "x)" + number + R"(", "dtype": ")" + name_of(inputs[i].spec.dtype) +
             R"(", "shape": )" + inputs[i].spec.shape.text() + "}";
  }
  return R"({"entries": [{"name": "main", "dims": [], "inputs": [)" + ports + R"(], "nodes": [{)" +
         attributes + R"(, "in": [)" + in + R"(]}], "outputs": [{"name": "y", "value": )" +
         std::to_string(inputs.size()) + "}]}]}";
}

Tensor run_node(const std::string& attributes, const std::vector<Tensor>& inputs,
                const TestConstants& constants, size_t threads) {
  return run_graph(graph_of(attributes, inputs), inputs, constants, threads)[0];
}

std::string code_of(const std::string& attributes, const std::vector<Tensor>& inputs,
                    const TestConstants& constants) {
  try {
    run_node(attributes, inputs, constants);
  } catch (const Error& error) {
    return error.code;
  }
  return "";
}

bool check(bool holds, const std::string& what) {
  if (!holds) printf("  wrong: %s\n", what.c_str());
  return holds;
}

Tensor draw(Random& random, const std::vector<size_t>& dims, float scale) {
  std::vector<float> values(shape_of(dims).count());
  for (float& value : values) value = random.normal() * scale;
  return Tensor(dims, values);
}

bool refuses(const char* code, const std::string& node, const std::vector<Tensor>& inputs,
             const TestConstants& constants) {
  const std::string found = code_of(node, inputs, constants);
  return check(found == code, node + " gives " + (found.empty() ? "no error" : found));
}

}  // namespace ferrule::tests
