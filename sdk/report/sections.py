"""The section of one target: what was built and how it was proven, or why there is nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ferrule.program import Parity, Signature, TensorSpec
from ferrule.report.data import Built, ReportData, Row
from ferrule.report.delegation import show_delegation
from ferrule.report.figures import AccuracyRun, Latency, Machine
from ferrule.report.markup import (
    NONE,
    Markup,
    element,
    format_count,
    format_error,
    format_megabytes,
    format_ms,
    format_percent,
    format_points,
    join,
    table,
)

__all__ = ["REFERENCE_INTERPRETER", "describe_machine", "is_interpreted", "show_built", "show_unbuilt"]

REFERENCE_INTERPRETER = (
    "coreml-reference is Ferrule's interpreter of Core ML programs: "
    "a reference for the arithmetic, not Apple's runtime. Apple's hardware may round otherwise."
)

KINDS = ("linear", "embedding", "other")  # one order in all sections, as in the chart


def is_interpreted(parity: Parity) -> bool:
    """Whether the answers came from our interpreter in place of Apple's runtime."""
    return "coreml-reference" in parity.engine


def describe_machine(machine: Machine) -> str:
    """One sentence that must stand wherever a host latency stands."""
    place = f"{machine.cpu}, {machine.cores} cores, {machine.system}"
    return f"Host latency is that of the machine that measured ({place}), not of the device the bundle is for."


def show_built(row: Row, data: ReportData) -> Markup:
    """Everything that a bundle tells of itself, in the order of the questions: what, how to call, how big, how good."""
    assert row.built is not None
    built = row.built
    parts = [
        _heading(row, built.device["title"]),
        _facts(row, built, data.accuracy),
        element("h4", "Entry points"),
        *(_entry_point(name, signature, row.number) for name, signature in built.program.entry_points.items()),
        element("div", element("div", _weights(row, built)), element("div", _parity(row, built)), class_="pair"),
    ]
    if row.latency and data.machine:
        parts += [element("h4", "Host latency"), _latency(row, row.latency, data.machine)]
    parts += [element("h4", "Where the ops run"), show_delegation(row.number, built.program.delegation)]
    if row.notes:
        parts += [element("h4", "Notes"), element("ul", *(element("li", note) for note in row.notes))]
    parts.append(_tools_and_files(row, built))
    return element("section", join(parts), class_="b", id=f"target-{row.number}")


def show_unbuilt(row: Row) -> Markup:
    """A refused, failed or damaged target: code, reason and next step."""
    facts = [("Code", element("code", row.code or NONE)), ("Reason", row.reason or NONE)]
    if row.hint:
        facts.append(("Next step", row.hint))
    if row.log:
        facts.append(("Log", element("code", row.log)))
    if row.status == "damaged":
        facts.append(("Figures", "None are shown: the files are no longer those that were measured."))
    parts = [_heading(row, row.bundle or ""), _definitions(facts)]
    return element("section", join(parts), class_="b", id=f"target-{row.number}")


def _heading(row: Row, title: str) -> Markup:
    status = Markup("") if row.status == "ok" else element("span", row.status, class_=f"s s-{row.status}")
    name = " · ".join(part for part in (row.device, row.target, row.recipe) if part) or (row.bundle or NONE)
    lead = element("p", title, class_="lead") if title and title != name else Markup("")
    return join([element("h3", f"{row.number}  {name} ", status), lead])


def _definitions(facts: Sequence[tuple[str, str]]) -> Markup:
    return element("dl", *(Markup(element("dt", name) + element("dd", value)) for name, value in facts))


def _facts(row: Row, built: Built, run: AccuracyRun | None) -> Markup:
    steps = f"steps: {'; '.join(built.steps)}" if built.steps else "no compression"
    facts = [
        ("Model", built.source),
        ("Recipe", f"{row.recipe} ({steps}); the lowest cosine must reach {built.min_cosine:g}"),
        ("Artefact", element("code", f"{row.bundle}/program/{built.program.main}")),
    ]
    if run and row.accuracy is not None:
        points = format_points(row.accuracy - run.reference_accuracy)
        told = f"{100 * row.accuracy:.2f} %, {points} points against {run.reference}; task: {run.task}"
        facts.append(("Accuracy", told))
    return _definitions(facts)


def _entry_point(name: str, signature: Signature, number: int) -> Markup:
    columns = [("Tensor", "t"), ("Role", "t"), ("Dtype", "t"), ("Shape", "t"), ("Padding value", "n")]
    rows = [_tensor(spec, "input", signature) for spec in signature.inputs]
    rows += [_tensor(spec, "output", signature) for spec in signature.outputs]
    ranges = [f"{dim.name} runs from {dim.min} to {dim.max}" for dim in signature.dims.values()]
    if signature.buckets:
        ranges.append("static programs for lengths " + ", ".join(str(length) for length in signature.buckets))
    told = f": {'; '.join(ranges)}." if ranges else ": static shapes."
    title = element("p", element("span", name, class_="key"), told)
    return join([title, table(columns, rows, f"Entry point {name} of target {number}")])


def _tensor(spec: TensorSpec, role: str, signature: Signature) -> list[str]:
    padding = signature.padding.get(spec.name) if role == "input" else None
    shape = " × ".join(str(axis) for axis in spec.shape) or "scalar"
    return [spec.name, role, spec.dtype, shape, NONE if padding is None else f"{padding:g}"]


def _weights(row: Row, built: Built) -> Markup:
    columns = [("Kind", "t"), ("Elements", "n"), ("Bytes", "n"), ("float32 bytes", "n"), ("% of float32", "n")]
    weights = sorted(
        built.program.weights, key=lambda w: (KINDS.index(w.kind) if w.kind in KINDS else len(KINDS), w.kind)
    )
    figures = [(w.kind, w.elements, w.bytes) for w in weights]
    figures.append(("all weights", sum(w.elements for w in weights), sum(w.bytes for w in weights)))
    rows = [[k, format_count(n), format_count(b), format_count(4 * n), format_percent(b, 4 * n)] for k, n, b in figures]
    rows.append(["whole artefact", "", format_count(built.size_bytes), "", format_percent(*_share(built))])
    note = element("p", "Measured: read back from the artefact.", class_="note")
    return join([element("h4", "Weights"), table(columns, rows, f"Weights of target {row.number}"), note])


def _share(built: Built) -> tuple[int, int]:
    return built.size_bytes, built.fp32_bytes


def _parity(row: Row, built: Built) -> Markup:
    parity = built.program.parity
    if parity is None:
        return join([element("h4", "Parity"), element("p", "Not measured: the bundle holds no parity.")])
    facts = [
        ("Inputs compared", str(parity.inputs)),
        ("Source of inputs", parity.source),
        ("Engine", element("code", parity.engine)),
        ("Cosine, lowest", f"{parity.cosine:.6f}"),
        ("Cosine, mean", f"{parity.cosine_mean:.6f}"),
        ("Max |error|", format_error(parity.max_abs)),
        ("Fidelity", f"{parity.fidelity:.6f}, lowest cosine to the compressed model before conversion"),
    ]
    how = element("span", "Measured against the float32 model; the inputs that the bundle carries: ")
    note = element("p", how, element("code", f"ferrule check {row.bundle}"), class_="note")
    told = element("p", REFERENCE_INTERPRETER) if is_interpreted(parity) else Markup("")
    return join([element("h4", "Parity"), _definitions(facts), told, note])


def _latency(row: Row, found: Latency, machine: Machine) -> Markup:
    columns = [
        ("Engine", "t"),
        ("Threads", "n"),
        ("Length", "n"),
        ("Runs", "n"),
        ("p10, ms", "n"),
        ("p25, ms", "n"),
        ("p50, ms", "n"),
        ("p75, ms", "n"),
        ("p90, ms", "n"),
        ("p99, ms", "n"),
        ("Load, ms", "n"),
        ("Peak memory, MB", "n"),
    ]
    length = NONE if found.length is None else str(found.length)
    cells = [found.engine, str(found.threads), length, str(found.runs)]
    times = (found.p10, found.p25, found.p50, found.p75, found.p90, found.p99, found.load_ms)
    cells += [NONE if value is None else format_ms(value) for value in times]
    cells.append(f"{found.peak_rss_mb:.0f}")
    note = element("p", f"{describe_machine(machine)} Measured: ", element("code", machine.command), class_="note")
    return join([table(columns, [cells], f"Host latency of target {row.number}"), note])


def _tools_and_files(row: Row, built: Built) -> Markup:
    tools = [["ferrule", built.ferrule], *([name, version] for name, version in sorted(built.program.tools.items()))]
    files = [
        [name, format_count(size), element("code", digest)] for name, (digest, size) in sorted(built.files.items())
    ]
    return join(
        [
            element(
                "details",
                element("summary", f"Tool versions ({len(tools)})"),
                table([("Tool", "t"), ("Version", "t")], tools, f"Tool versions of target {row.number}"),
            ),
            element(
                "details",
                element("summary", f"File hashes ({len(files)} files, {format_megabytes(_total(built))} MB)"),
                table([("File", "t"), ("Bytes", "n"), ("sha256", "h")], files, f"Files of target {row.number}"),
            ),
        ]
    )


def _total(built: Built) -> int:
    return sum(size for _, size in built.files.values())
