#include "ferrule/rope.h"

#include <cmath>

#include "arguments.h"
#include "ferrule/rope_tables.h"
#include "groups.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

py::object rope(const py::object& input, const py::object& cosines, const py::object& sines,
                const py::object& positions, const py::object& first_position, const py::object& pairs,
                const py::object& out, const py::object& pool, const py::object& isa) {
  const Tensor x = Tensor::read(input, "input", {Dtype::kFloat32});
  x.require_rank(3);
  const Tensor cosine = Tensor::read(cosines, "cosines", {Dtype::kFloat32});
  const Tensor sine = Tensor::read(sines, "sines", {Dtype::kFloat32});
  cosine.require_rank(2).require_contiguous();
  sine.require_shape(cosine.shape(), "that of cosines").require_contiguous();
  if (cosine.size(1) > x.size(2) / 2) {
    refuse_shape("cosines", describe(cosine.shape()),
                 "at most half of the last axis of input along the second axis");
  }
  const auto place = read_optional(positions, "positions", {Dtype::kInt32});
  if (place) place->require_shape({x.size(0)}, "the tokens of input").require_contiguous();
  const Tensor y = Tensor::output(out, "out", x.shape(), Dtype::kFloat32);
  y.require_apart(x, true).require_apart(cosine).require_apart(sine).require_apart_from_all({&place});

  ferrule_rope_args args = {};
  args.pairs = require_word(pairs, "pairs",
                            {{"halves", FERRULE_ROPE_HALVES}, {"neighbours", FERRULE_ROPE_NEIGHBOURS}});
  args.input = x.data<float>();
  args.output = y.data<float>();
  args.cosines = cosine.data<float>();
  args.sines = sine.data<float>();
  args.positions = data_of<int32_t>(place);
  args.input_token_stride = x.stride(0);
  args.input_head_stride = x.stride(1);
  args.output_token_stride = y.stride(0);
  args.output_head_stride = y.stride(1);
  args.tokens = x.size(0);
  args.heads = x.size(1);
  args.width = x.size(2);
  args.rotary = 2 * cosine.size(1);
  args.table_rows = cosine.size(0);
  args.first_position = static_cast<size_t>(require_integer(first_position, "first_position", 0, INT32_MAX));
  run("rope", &ferrule_rope, args, isa, pool);
  return y.object();
}

double require_double(const py::object& value, const char* name) {
  const double number = PyFloat_AsDouble(value.ptr());
  if (PyErr_Occurred()) {
    PyErr_Clear();
    refuse_type(name, describe(value), "a real number");
  }
  if (!std::isfinite(number)) refuse_value(name, py::str(value), "a finite number");
  return number;
}

py::tuple rope_tables(const py::object& rows, const py::object& half, const py::object& theta,
                      const py::object& frequencies, const py::object& magnitude, const py::object& positions,
                      const py::object& first_position, const py::object& pool, const py::object& isa) {
  ferrule_rope_tables_args args = {};
  args.rows = static_cast<size_t>(require_integer(rows, "rows", 0, INT32_MAX));
  args.half = static_cast<size_t>(require_integer(half, "half", 0, INT32_MAX));
  args.first_position = static_cast<size_t>(require_integer(first_position, "first_position", 0, INT32_MAX));
  args.theta = require_double(theta, "theta");
  args.magnitude = require_double(magnitude, "magnitude");
  const auto turns = read_optional(frequencies, "frequencies", {Dtype::kFloat64});
  if (turns) turns->require_shape({args.half}, "half").require_contiguous();
  const auto place = read_optional(positions, "positions", {Dtype::kInt32});
  if (place) place->require_shape({args.rows}, "rows").require_contiguous();
  const Tensor cosines = Tensor::make("rows", {args.rows, args.half}, Dtype::kFloat32);
  const Tensor sines = Tensor::make("rows", {args.rows, args.half}, Dtype::kFloat32);
  args.positions = data_of<int32_t>(place);
  args.frequencies = data_of<double>(turns);
  args.cosines = cosines.data<float>();
  args.sines = sines.data<float>();
  run("rope_tables", &ferrule_rope_tables, args, isa, pool);
  return py::make_tuple(cosines.object(), sines.object());
}

}  // namespace

void bind_rope(py::module_& module) {
  const py::object none = py::none();
  module.def("rope", &rope, "Rotary position embedding.", py::arg("input"), py::arg("cosines"),
             py::arg("sines"), py::kw_only(), py::arg("positions") = none, py::arg("first_position") = 0,
             py::arg("pairs") = "halves", py::arg("out") = none, py::arg("pool") = none,
             py::arg("isa") = none);
  module.def("rope_tables", &rope_tables, "Cosines and sines of positions.", py::arg("rows"), py::arg("half"),
             py::kw_only(), py::arg("theta") = 10000.0, py::arg("frequencies") = none,
             py::arg("magnitude") = 1.0, py::arg("positions") = none, py::arg("first_position") = 0,
             py::arg("pool") = none, py::arg("isa") = none);
}

}  // namespace ferrule::bindings
