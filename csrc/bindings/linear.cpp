#include "ferrule/linear.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>

#include "choices.h"
#include "groups.h"
#include "memory.h"
#include "packing.h"

namespace ferrule::bindings {

namespace {

[[noreturn]] void raise_os_error(int number, const std::string& path) {
  errno = number;
  PyErr_SetFromErrnoWithFilename(PyExc_OSError, path.c_str());
  throw py::error_already_set();
}

std::string require_path(const py::object& value) {
  const auto path = py::reinterpret_steal<py::object>(PyOS_FSPath(value.ptr()));
  if (!path) {
    PyErr_Clear();
    refuse_type("path", describe(value), "a path");
  }
  return py::module_::import("os").attr("fsencode")(path).cast<std::string>();
}

// `ferrule.runtime._C.PackedLinear`.
class PackedLinear {
 public:
  PackedLinear(std::unique_ptr<Block> block) : block_(std::move(block)) {
    require_ok(ferrule_linear_check(block_->data(), block_->size(), 1, &info_), "PackedLinear");
  }

  static std::unique_ptr<PackedLinear> pack(const py::object& weight, const py::object& scales,
                                            const py::object& kind, const py::object& input,
                                            const py::object& table, const py::object& bias,
                                            const py::object& group, const py::object& sparse,
                                            const py::object& input_scale, const py::object& input_zero,
                                            const py::object& isa);
  static std::unique_ptr<PackedLinear> load(const py::object& path);
  void save(const py::object& path) const;
  py::object run(const py::object& input, const py::object& activation, const py::object& residual,
                 const py::object& output_scale, const py::object& output_zero, const py::object& out,
                 const py::object& pool) const;
  py::dict info() const { return tell(info_); }
  const ferrule_linear_spec& spec() const { return info_.spec; }
  const char* isa() const { return info_.isa; }

 private:
  std::unique_ptr<Block> block_;
  ferrule_linear_info info_;
};

std::unique_ptr<PackedLinear> PackedLinear::pack(const py::object& weight, const py::object& scales,
                                                 const py::object& kind, const py::object& input,
                                                 const py::object& table, const py::object& bias,
                                                 const py::object& group, const py::object& sparse,
                                                 const py::object& input_scale, const py::object& input_zero,
                                                 const py::object& isa) {
  const Weights given =
      read_weights(weight, 2, 1, {scales, kind, input, table, bias, group, sparse, input_scale, input_zero});
  const ferrule_linear_weights weights = given.pointers();
  const std::string usable = require_isa(isa);
  size_t bytes = 0;
  require_ok(ferrule_linear_packed_size(&given.spec, usable.c_str(), &bytes), "PackedLinear.pack");
  auto block = std::make_unique<Block>(bytes, "packed weights");
  ferrule_status status;
  {
    const py::gil_scoped_release release;
    status = ferrule_linear_pack(&given.spec, usable.c_str(), &weights, block->data());
  }
  require_ok(status, "PackedLinear.pack");
  return std::make_unique<PackedLinear>(std::move(block));
}

py::object PackedLinear::run(const py::object& input, const py::object& activation,
                             const py::object& residual, const py::object& output_scale,
                             const py::object& output_zero, const py::object& out,
                             const py::object& pool) const {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  const Rows rows = x.rows();
  if (rows.width != spec().depth) {
    refuse_shape("input", describe(x.shape()),
                 std::to_string(spec().depth) + " along the last axis, the depth of the layer");
  }
  Shape shape = x.shape();
  shape.back() = spec().rows;
  ferrule_linear_args args = {};
  read_requantization(output_scale, output_zero, &args.epilogue);
  const Dtype dtype = output_scale.is_none() ? Dtype::kFloat32 : Dtype::kInt8;
  const Tensor y = Tensor::output(out, "out", shape, dtype);
  const auto r = read_optional(residual, "residual", {Dtype::kFloat32});
  if (r) r->require_shape(shape, "the result's");
  y.require_apart(x);
  if (r) y.require_apart(*r, true);

  args.packed = block_->data();
  args.packed_bytes = block_->size();
  args.input = x.data<float>();
  args.input_stride = rows.stride;
  args.output = y.data<void>();
  args.output_stride = y.rows().stride;
  args.m = rows.count;
  args.epilogue.activation = require_activation(activation);
  args.epilogue.residual = data_of<float>(r);
  args.epilogue.residual_stride = r ? r->rows().stride : 0;
  bindings::run("PackedLinear.run", pool, [&](ferrule_pool* threads) {
    const size_t bytes =
        ferrule_linear_scratch(args.packed, args.packed_bytes, args.m, ferrule_pool_threads(threads));
    return ferrule_linear(&args, take_scratch(bytes), threads);
  });
  return y.object();
}

// Read into memory, not mapped: a file that is cut short while it is mapped would end the process.
std::unique_ptr<PackedLinear> PackedLinear::load(const py::object& path) {
  const std::string name = require_path(path);
  std::error_code error;
  const auto bytes = std::filesystem::file_size(name, error);
  if (error) raise_os_error(error.value(), name);
  auto block = std::make_unique<Block>(static_cast<size_t>(bytes), "packed weights");
  std::ifstream file(name, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(block->data()), static_cast<std::streamsize>(bytes)))
    raise_os_error(errno ? errno : EIO, name);
  return std::make_unique<PackedLinear>(std::move(block));
}

// Written beside its place and renamed: the file is whole or absent.
void PackedLinear::save(const py::object& path) const {
  const std::string name = require_path(path);
  const std::string partial = name + ".partial-" + std::to_string(std::random_device()());
  std::ofstream file(partial, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(block_->data()), static_cast<std::streamsize>(block_->size()));
  file.close();
  int problem = file.fail() ? (errno ? errno : EIO) : 0;
  if (!problem) {
    std::error_code error;
    std::filesystem::rename(partial, name, error);
    problem = error.value();
  }
  if (problem) {
    std::remove(partial.c_str());
    raise_os_error(problem, name);
  }
}

}  // namespace

void bind_linear(py::module_& module) {
  const py::object none = py::none();
  py::class_<PackedLinear>(module, "PackedLinear", "A linear layer with packed weights.")
      .def_static("pack", &PackedLinear::pack, "Packs codes and scales for an instruction set.",
                  py::arg("weight"), py::arg("scales") = none, py::kw_only(), py::arg("kind") = "float32",
                  py::arg("input") = "float32", py::arg("table") = none, py::arg("bias") = none,
                  py::arg("group") = 0, py::arg("sparse24") = false, py::arg("input_scale") = none,
                  py::arg("input_zero") = 0, py::arg("isa") = none)
      .def_static("load", &PackedLinear::load, "Reads what `save` wrote.", py::arg("path"))
      .def("save", &PackedLinear::save, "Writes the packed layer to a file.", py::arg("path"))
      .def("run", &PackedLinear::run, "Multiplies rows by the layer.", py::arg("input"), py::kw_only(),
           py::arg("activation") = none, py::arg("residual") = none, py::arg("output_scale") = none,
           py::arg("output_zero") = 0, py::arg("out") = none, py::arg("pool") = none)
      .def_property_readonly("info", &PackedLinear::info, "What the packed layer says of itself.")
      .def_property_readonly("isa", &PackedLinear::isa, "The instruction set whose kernel reads it.");
}

}  // namespace ferrule::bindings
