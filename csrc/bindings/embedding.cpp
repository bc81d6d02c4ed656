#include "ferrule/embedding.h"

#include "arguments.h"
#include "groups.h"
#include "tensor.h"

namespace ferrule::bindings {

namespace {

size_t round_up_part(size_t whole, size_t part) { return part ? (whole + part - 1) / part : whole > 0; }

// Bytes or elements of a row of the table.
size_t row_size(int kind, size_t width) {
  switch (kind) {
    case FERRULE_EMBEDDING_I4:
    case FERRULE_EMBEDDING_LUT4:
      return round_up_part(width, 2);
    case FERRULE_EMBEDDING_LUT2:
      return round_up_part(width, 4);
    default:
      return width;
  }
}

py::object embedding(const py::object& indices, const py::object& table, const py::object& kind,
                     const py::object& width, const py::object& scales, const py::object& palettes,
                     const py::object& group, const py::object& output_scale, const py::object& out,
                     const py::object& pool, const py::object& isa) {
  ferrule_embedding_args args = {};
  args.kind = require_word(kind, "kind",
                           {{"float32", FERRULE_EMBEDDING_F32},
                            {"affine8", FERRULE_EMBEDDING_I8},
                            {"affine4", FERRULE_EMBEDDING_I4},
                            {"lookup4", FERRULE_EMBEDDING_LUT4},
                            {"lookup2", FERRULE_EMBEDDING_LUT2}});
  const bool floats = args.kind == FERRULE_EMBEDDING_F32;
  const bool lookup = args.kind == FERRULE_EMBEDDING_LUT4 || args.kind == FERRULE_EMBEDDING_LUT2;
  const Dtype dtype = floats                              ? Dtype::kFloat32
                      : args.kind == FERRULE_EMBEDDING_I8 ? Dtype::kInt8
                                                          : Dtype::kUint8;
  const Tensor rows = Tensor::read(table, "table", {dtype});
  rows.require_rank(2).require_contiguous();
  const Tensor at = Tensor::read(indices, "indices", {Dtype::kInt32, Dtype::kInt64});
  at.require_contiguous();
  args.rows = rows.size(0);
  args.width =
      width.is_none() ? rows.size(1) : static_cast<size_t>(require_integer(width, "width", 0, INT32_MAX));
  if (rows.size(1) != row_size(args.kind, args.width)) {
    refuse_shape("table", describe(rows.shape()),
                 std::to_string(row_size(args.kind, args.width)) +
                     " along the last axis; give `width` with packed codes");
  }
  const auto part = static_cast<size_t>(require_integer(group, "group", 0, INT32_MAX));
  const auto s = read_optional(scales, "scales", {Dtype::kFloat32});
  if (floats ? s.has_value() : !lookup && !s) {
    refuse_value("scales", floats ? "a tensor" : "None", "a tensor with affine codes, None with float32");
  }
  if (s) {
    const size_t groups = part ? round_up_part(args.width, part) : 1;
    s->require_shape(lookup || !part ? Shape{args.rows} : Shape{args.rows, groups},
                     "a scale for each row or group");
    s->require_contiguous();
  }
  const auto p = read_optional(palettes, "palettes", {Dtype::kFloat32});
  if (lookup != p.has_value()) {
    refuse_value("palettes", lookup ? "None" : "a tensor", "a tensor with lookup4 and lookup2, else None");
  }
  if (p) {
    const size_t entries = args.kind == FERRULE_EMBEDDING_LUT4 ? 16 : 4;
    p->require_shape({round_up_part(args.rows, part), entries}, "the entries of each palette")
        .require_contiguous();
  }
  Shape shape = at.shape();
  shape.push_back(args.width);
  const Tensor y = Tensor::output(out, "out", shape, Dtype::kFloat32);
  y.require_apart(rows).require_apart(at).require_apart_from_all({&s, &p});

  args.index_bytes = at.dtype() == Dtype::kInt32 ? 4 : 8;
  args.table = rows.data<void>();
  args.scales = data_of<float>(s);
  args.palettes = data_of<float>(p);
  args.indices = at.data<void>();
  args.output = y.data<float>();
  (lookup ? args.palette_rows : args.group) = part;
  args.output_stride = y.rows().stride;
  args.count = at.count();
  args.output_scale = require_number(output_scale, "output_scale");
  run("embedding", &ferrule_embedding, args, isa, pool);
  return y.object();
}

}  // namespace

void bind_embedding(py::module_& module) {
  const py::object none = py::none();
  module.def("embedding", &embedding, "Rows of a table, decoded.", py::arg("indices"), py::arg("table"),
             py::kw_only(), py::arg("kind") = "float32", py::arg("width") = none, py::arg("scales") = none,
             py::arg("palettes") = none, py::arg("group") = 0, py::arg("output_scale") = 1.0,
             py::arg("out") = none, py::arg("pool") = none, py::arg("isa") = none);
}

}  // namespace ferrule::bindings
