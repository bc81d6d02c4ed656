#include "executor/graph.h"

#include <algorithm>

namespace ferrule::executor {

namespace {

constexpr size_t kMostResults = 64;

[[noreturn]] void refuse(const std::string& what) {
  throw Error("FER-NAT-003", "The program's graph is not valid: " + what + ".");
}

const Json& member(const Json& json, const char* name, Json::Kind kind) {
  const Json* found = json.find(name);
  if (!found || found->kind() != kind) refuse("`" + std::string(name) + "` is absent or of another type");
  return *found;
}

Dtype dtype_of(const std::string& name) {
  Dtype dtype;
  if (!find_dtype(name, &dtype)) refuse("dtype " + name);
  return dtype;
}

template <typename T>
size_t find_name(const std::vector<T>& items, const std::string& name) {
  size_t i = 0;
  while (i < items.size() && items[i].name != name) ++i;
  return i;
}

class Reader {
 public:
  Reader(const Constants& constants, ferrule_pool* pool) : shared_(constants, pool) {}

  Graph read(const Json& json) {
    if (const Json* states = json.find("states")) {
      for (const Json& state : states->list()) {
        graph_.states.push_back({member(state, "name", Json::Kind::kText).text(),
                                 shared_.read(member(state, "initial", Json::Kind::kText).text())});
      }
    }
    for (const Json& entry : member(json, "entries", Json::Kind::kList).list()) read_entry(entry);
    graph_.weight_bytes = shared_.bytes();
    return std::move(graph_);
  }

 private:
  void read_entry(const Json& json) {
    Entry entry;
    entry.name = member(json, "name", Json::Kind::kText).text();
    std::vector<std::string> names;
    for (const Json& dim : member(json, "dims", Json::Kind::kList).list()) {
      entry.dims.push_back({member(dim, "name", Json::Kind::kText).text(),
                            member(dim, "min", Json::Kind::kInteger).integer(),
                            member(dim, "max", Json::Kind::kInteger).integer()});
      names.push_back(entry.dims.back().name);
    }
    for (const Json& input : member(json, "inputs", Json::Kind::kList).list()) {
      entry.inputs.push_back(read_input(input, names));
    }
    entry.values = entry.inputs.size();
    for (const Json& node : member(json, "nodes", Json::Kind::kList).list()) read_node(node, names, entry);
    for (const Json& output : member(json, "outputs", Json::Kind::kList).list()) {
      entry.outputs.push_back({member(output, "name", Json::Kind::kText).text(),
                               value_number(member(output, "value", Json::Kind::kInteger).integer(), entry)});
    }
    if (const Json* updates = json.find("updates")) {
      for (const Json& pair : updates->list()) entry.updates.push_back(read_update(pair, entry));
    }
    graph_.entries.push_back(std::move(entry));
  }

  static InputPort read_input(const Json& json, const std::vector<std::string>& dims) {
    InputPort input = {member(json, "name", Json::Kind::kText).text(),
                       dtype_of(member(json, "dtype", Json::Kind::kText).text()),
                       {},
                       {}};
    for (const Json& axis : member(json, "shape", Json::Kind::kList).list()) {
      input.shape.emplace_back(axis, dims);
      const bool is_dim = axis.kind() == Json::Kind::kText;
      const auto place = is_dim ? std::find(dims.begin(), dims.end(), axis.text()) : dims.end();
      input.axes.push_back(is_dim ? static_cast<size_t>(place - dims.begin()) : InputPort::kFixed);
    }
    if (input.shape.size() > kMostRank) refuse("input " + input.name + " has too many axes");
    return input;
  }

  static size_t value_number(int64_t number, const Entry& entry) {
    if (number < 0 || static_cast<uint64_t>(number) >= entry.values)
      refuse("value " + std::to_string(number) + " is used before it is made");
    return static_cast<size_t>(number);
  }

  void read_node(const Json& json, const std::vector<std::string>& dims, Entry& entry) {
    const Node node(json, dims, shared_, &graph_.kernels);
    Step step;
    step.name = node.op();
    step.place = node.place();
    for (const Json& input : member(json, "in", Json::Kind::kList).list()) {
      step.inputs.push_back(read_source(input, entry));
    }
    const int64_t results = node.integer("results", 1);
    if (results < 1 || static_cast<size_t>(results) > kMostResults)
      refuse(step.place + " has too many results");
    step.first_result = entry.values;
    step.results = static_cast<size_t>(results);
    step.op = make_op(node);
    entry.values += step.results;
    entry.steps.push_back(std::move(step));
  }

  Source read_source(const Json& json, const Entry& entry) {
    if (json.kind() == Json::Kind::kInteger)
      return {Source::Kind::kValue, value_number(json.integer(), entry)};
    if (json.kind() != Json::Kind::kText || json.text().empty())
      refuse("a node's input is neither number nor name");
    if (json.text()[0] == '@') {
      const size_t state = find_name(graph_.states, json.text().substr(1));
      if (state == graph_.states.size()) refuse("there is no state " + json.text());
      return {Source::Kind::kState, state};
    }
    const size_t known = find_name(constant_names_, json.text());
    if (known == constant_names_.size()) {
      graph_.constants.push_back(shared_.read(json.text()));
      constant_names_.push_back({json.text()});
    }
    return {Source::Kind::kConstant, known};
  }

  Update read_update(const Json& pair, const Entry& entry) const {
    if (pair.list().size() != 2 || pair.list()[1].kind() != Json::Kind::kInteger) refuse("an update");
    const size_t state = find_name(graph_.states, pair.list()[0].text());
    if (state == graph_.states.size()) refuse("an update of a state that there is not");
    return {state, value_number(pair.list()[1].integer(), entry)};
  }

  struct Name {
    std::string name;
  };
  Shared shared_;
  Graph graph_;
  std::vector<Name> constant_names_;
};

}  // namespace

Graph read_graph(const std::string& text, const Constants& constants, ferrule_pool* pool) {
  return Reader(constants, pool).read(Json::parse(text));
}

}  // namespace ferrule::executor
