#include "executor/program.h"

#include <pybind11/stl.h>

#include <chrono>
#include <mutex>
#include <set>

#include "arguments.h"
#include "groups.h"
#include "ops/checksum.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

using executor::Array;
using executor::Error;
using executor::Program;

constexpr Dtypes kStored = {Dtype::kFloat32, Dtype::kInt64, Dtype::kInt32,
                            Dtype::kBool,    Dtype::kInt8,  Dtype::kUint8};

// Python sees it as ProgramError; the text begins with the code.
struct ProgramRefused : std::runtime_error {
  explicit ProgramRefused(const Error& error)
      : std::runtime_error(std::string(error.code) + " " + error.what()) {}
};

executor::Dtype executor_dtype(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32:
      return executor::Dtype::kFloat32;
    case Dtype::kInt64:
      return executor::Dtype::kInt64;
    case Dtype::kInt32:
      return executor::Dtype::kInt32;
    case Dtype::kInt8:
      return executor::Dtype::kInt8;
    case Dtype::kUint8:
      return executor::Dtype::kUint8;
    default:
      return executor::Dtype::kBool;
  }
}

py::array make_numpy(const executor::Spec& spec) {
  std::vector<py::ssize_t> shape;
  for (size_t axis = 0; axis < spec.shape.rank; ++axis)
    shape.push_back(static_cast<py::ssize_t>(spec.shape[axis]));
  return py::array(py::dtype(executor::name_of(spec.dtype)), shape);
}

// `ferrule.runtime._C.Program`.
class NativeProgram {
 public:
  NativeProgram(const std::string& path, const py::object& threads) {
    const auto count = static_cast<size_t>(require_integer(threads, "threads", 1, 1024));
    const py::gil_scoped_release release;
    try {
      program_ = std::make_shared<Program>(path, count);
    } catch (const Error& error) {
      throw ProgramRefused(error);
    }
  }

  py::dict entries() const {
    const auto program = require_open();
    py::dict told;
    for (const executor::Entry& entry : program->graph().entries) {
      std::vector<std::string> inputs, outputs;
      for (const auto& input : entry.inputs) inputs.push_back(input.name);
      for (const auto& output : entry.outputs) outputs.push_back(output.name);
      told[py::str(entry.name)] = py::make_tuple(inputs, outputs);
    }
    return told;
  }

  py::dict parts() const {
    const auto program = require_open();
    std::set<std::string> ops;
    for (const executor::Entry& entry : program->graph().entries) {
      for (const executor::Step& step : entry.steps) ops.insert(step.name);
    }
    py::dict told;
    told["ops"] = std::vector<std::string>(ops.begin(), ops.end());
    const auto& kernels = program->graph().kernels;
    told["kernels"] = std::vector<std::string>(kernels.begin(), kernels.end());
    return told;
  }

  py::list run(const std::string& entry, const py::sequence& inputs) { return call(entry, inputs, nullptr); }

  py::tuple profile(const std::string& name, const py::sequence& inputs) {
    const auto program = require_open();
    const size_t number = find(*program, name);
    const auto& steps = program->graph().entries[number].steps;
    std::vector<double> seconds(steps.size());
    const auto start = std::chrono::steady_clock::now();
    const py::list outputs = call(name, inputs, seconds.data());
    const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - start;
    py::list rows;
    for (size_t i = 0; i < steps.size(); ++i)
      rows.append(py::make_tuple(steps[i].name, steps[i].place, seconds[i]));
    return py::make_tuple(outputs, rows, whole.count());
  }

  py::dict memory(const std::string& name) const {
    const auto program = require_open();
    const executor::Plan* plan = program->last_plan(find(*program, name));
    py::dict told;
    told["weights"] = program->graph().weight_bytes;
    told["values"] = plan ? plan->values_bytes : 0;
    told["live"] = plan ? plan->live_bytes : 0;
    told["scratch"] = plan ? plan->scratch_bytes : 0;
    return told;
  }

  void reset() {
    const auto program = require_open();
    try {
      program->reset();
    } catch (const Error& error) {
      throw ProgramRefused(error);
    }
  }

  void close() { program_.reset(); }

 private:
  // A call holds the program, so that closing it meanwhile frees it after the call.
  std::shared_ptr<Program> require_open() const {
    if (!program_) throw ProgramRefused(Error("FER-NAT-007", "The program is closed."));
    return program_;
  }

  static size_t find(const Program& program, const std::string& name) {
    try {
      return program.find_entry(name);
    } catch (const Error& error) {
      throw ProgramRefused(error);
    }
  }

  py::list call(const std::string& entry, const py::sequence& inputs, double* seconds) {
    const auto program = require_open();
    const size_t number = find(*program, entry);
    std::vector<Tensor> held;
    std::vector<Array> arrays;
    for (const auto& value : inputs) {
      held.push_back(Tensor::read(py::reinterpret_borrow<py::object>(value), "input", kStored));
      held.back().require_contiguous();
      Array array = {{executor_dtype(held.back().dtype()), {}}, held.back().data<void>()};
      for (const size_t size : held.back().shape()) array.spec.shape.push(size);
      arrays.push_back(array);
    }
    py::list outputs;
    try {
      const py::gil_scoped_release release;
      program->run_into(
          number, arrays,
          [&outputs](const std::vector<executor::Spec>& specs) {
            const py::gil_scoped_acquire acquire;
            std::vector<void*> memory;
            for (const executor::Spec& spec : specs) {
              py::array array = make_numpy(spec);
              memory.push_back(array.mutable_data());
              outputs.append(std::move(array));
            }
            return memory;
          },
          seconds);
    } catch (const Error& error) {
      throw ProgramRefused(error);
    }
    return outputs;
  }

  std::shared_ptr<Program> program_;
};

}  // namespace

void bind_program(py::module_& module) {
  py::register_exception<ProgramRefused>(module, "ProgramError", PyExc_RuntimeError);
  module.def(
      "checksum",
      [](const py::object& bytes) {
        const Tensor array = Tensor::read(bytes, "bytes", kStored);
        array.require_contiguous();
        return ops::checksum(array.data<void>(), array.count() * size_of(array.dtype()));
      },
      "Checksum of an array in the file of a program.", py::arg("bytes"));
  py::class_<NativeProgram>(module, "Program", "A lowered model: an artefact of the target native.")
      .def(py::init<const std::string&, const py::object&>(), py::arg("path"), py::arg("threads") = 1)
      .def_property_readonly("entries", &NativeProgram::entries, "Entry points: names of inputs and outputs.")
      .def_property_readonly("parts", &NativeProgram::parts, "Ops and kernels that the program uses.")
      .def("run", &NativeProgram::run, "Runs an entry point.", py::arg("entry"), py::arg("inputs"))
      .def("profile", &NativeProgram::profile, "Runs an entry point and times each op, and the whole.",
           py::arg("entry"), py::arg("inputs"))
      .def("memory", &NativeProgram::memory, "Bytes of all weights, and of the last run's values.",
           py::arg("entry"))
      .def("reset", &NativeProgram::reset, "Puts all states back to their first values.")
      .def("close", &NativeProgram::close, "Frees the program, after a call that is at work.");
}

}  // namespace ferrule::bindings
