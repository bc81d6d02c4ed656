"""What a build left in a folder: bundles, refusals, failures, and the figures beside them, as plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from ferrule.bundle import Bundle
from ferrule.errors import BundleError, FerruleError
from ferrule.program import Program
from ferrule.report.figures import (
    MALFORMED,
    AccuracyRun,
    Json,
    Latency,
    Machine,
    Sensitivity,
    read_accuracies,
    read_json,
    read_measurements,
    read_sensitivity,
)
from ferrule.report.settle import settle, to_count

__all__ = ["Built", "ReportData", "Row", "collect", "read_bundle"]


@dataclass(frozen=True)
class Built:
    """What an undamaged bundle tells of itself; sizes in bytes, `files` as name -> (sha256, bytes)."""

    program: Program
    size_bytes: int
    source: str
    device: Mapping[str, str]
    steps: tuple[str, ...]
    min_cosine: float
    notes: tuple[str, ...]
    files: Mapping[str, tuple[str, int]]
    ferrule: str

    @property
    def fp32_bytes(self) -> int:
        """Bytes of all stored weights if they were float32."""
        return sum(w.fp32_bytes for w in self.program.weights)


@dataclass(frozen=True)
class Row:
    """One target. status: `ok`, `refused`, `failed`, or `damaged` (built, but its bundle can no longer be trusted)."""

    number: int
    device: str
    target: str
    recipe: str
    status: str
    bundle: str | None = None
    built: Built | None = None
    code: str | None = None
    reason: str | None = None
    hint: str | None = None
    notes: tuple[str, ...] = ()
    log: str | None = None
    latency: Latency | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class ReportData:
    """All that the page shows. problems: files of the folder that could not be read, in words."""

    rows: tuple[Row, ...]
    machine: Machine | None = None
    accuracy: AccuracyRun | None = None
    problems: tuple[str, ...] = ()
    sensitivity: Sensitivity | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The models that the bundles were built from, each once."""
        return tuple(dict.fromkeys(row.built.source for row in self.rows if row.built))


def collect(folder: Path) -> ReportData:
    """Read a build folder; a damaged bundle becomes a row with its problem, absent optional files are left out.

    Raises BundleError FER-BUN-001 if the folder holds neither a bundle nor a `build.json`.
    """
    folder = Path(folder)
    problems: list[str] = []
    listed = read_json(folder / "build.json", problems)
    found = sorted(path.name for path in folder.glob("*.ferrule") if path.is_dir())
    if listed is None and not found and not problems:
        raise BundleError(
            "FER-BUN-001",
            f"{folder} holds no bundle (*.ferrule) and no build.json.",
            "Give the folder that `ferrule build -o` wrote.",
        )
    rows = [row for entry in _entries(listed, problems) if (row := _row(entry, folder, problems)) is not None]
    known = {row.bundle for row in rows}
    rows += [_open_row(Row(0, "", "", "", "ok", bundle=name), folder) for name in found if name not in known]
    machine, latencies = read_measurements(folder, problems)
    accuracy, accuracies = read_accuracies(folder, problems)
    numbered = tuple(
        replace(
            row,
            number=number,
            latency=latencies.get(row.bundle or "") if row.built else None,
            accuracy=accuracies.get(row.bundle or "") if row.built else None,
        )
        for number, row in enumerate(rows, 1)
    )
    sensitivity = read_sensitivity(folder, problems)
    return ReportData(numbered, machine, accuracy, tuple(problems), sensitivity)


def read_bundle(path: Path) -> ReportData:
    """One bundle (folder or .zip) as its only row, with the figures that lie beside it.

    Raises BundleError FER-BUN-… as `Bundle.open` and `Bundle.verify` do.
    """
    path = Path(path)
    bundle = Bundle.open(path)
    bundle.verify()
    row = _fill(Row(1, "", "", "", "ok", bundle=path.name), bundle)
    problems: list[str] = []
    machine, latencies = read_measurements(path.parent, problems)
    accuracy, accuracies = read_accuracies(path.parent, problems)
    name = path.name.removesuffix(".zip")
    row = replace(row, latency=latencies.get(name), accuracy=accuracies.get(name))
    return ReportData((row,), machine, accuracy, tuple(problems))


def _entries(listed: Json | None, problems: list[str]) -> Sequence[Any]:
    entries = (listed or {}).get("results", [])
    if not isinstance(entries, list):
        problems.append("build.json is left out: its 'results' is not a list.")
        return []
    return entries


def _row(entry: Any, folder: Path, problems: list[str]) -> Row | None:
    """The row of `build.json`, with its bundle opened where it has one."""
    try:
        row = Row(
            number=0,
            device=str(entry["device"]),
            target=str(entry["target"]),
            recipe=str(entry["recipe"]),
            status=str(entry["status"]),
            # Only the last part counts: a bundle lies in the folder, whatever the file says.
            bundle=PurePath(str(entry["bundle"])).name if entry.get("bundle") else None,
            code=_text(entry.get("code")),
            reason=_text(entry.get("reason")),
            hint=_text(entry.get("hint")),
            notes=tuple(str(note) for note in entry.get("notes") or ()),
            log=PurePath(str(entry["log"])).name if entry.get("log") else None,
        )
    except MALFORMED as error:
        problems.append(f"A row of build.json is left out: {type(error).__name__}: {error}.")
        return None
    if row.status == "ok":
        return _open_row(row, folder)
    return replace(row, status="refused" if row.status == "refused" else "failed")


def _open_row(row: Row, folder: Path) -> Row:
    """The row with what its bundle tells, or marked `damaged` with the reason."""
    try:
        if row.bundle is None:
            raise BundleError("FER-BUN-001", "build.json calls this target built, but names no bundle.")
        bundle = Bundle.open(folder / row.bundle)
        bundle.verify()
        return _fill(row, bundle)
    except FerruleError as error:
        return _damaged(row, error)


def _fill(row: Row, bundle: Bundle) -> Row:
    """The row with what a verified bundle tells; raises BundleError FER-BUN-002 for a malformed manifest."""
    try:
        built = _read_bundle(bundle)
        recipe = str(bundle.manifest["recipe"]["name"])
    except MALFORMED as error:
        what = f"{row.bundle} has a malformed manifest or delegation table: {type(error).__name__}: {error}."
        raise BundleError("FER-BUN-002", what) from error
    return replace(
        row, device=built.device["name"], target=bundle.target, recipe=recipe, notes=built.notes, built=built
    )


def _damaged(row: Row, error: FerruleError) -> Row:
    hint = error.hint or "Build it again, or delete the folder."
    return replace(row, status="damaged", code=error.code, reason=error.message, hint=hint)


def _read_bundle(bundle: Bundle) -> Built:
    manifest, program = bundle.manifest, settle(bundle.program)
    steps = tuple(
        " ".join([str(step["technique"]), *(f"{k}={v}" for k, v in dict(step.get("options") or {}).items())])
        for step in manifest["recipe"]["steps"]
    )
    return Built(
        program=program,
        size_bytes=to_count(manifest["size_bytes"]),
        source=str(manifest["model"]["source"]),
        device={"name": str(manifest["device"]["name"]), "title": str(manifest["device"]["title"])},
        steps=steps,
        min_cosine=float(manifest["recipe"]["min_cosine"]),
        notes=(*(str(note) for note in manifest["model"].get("notes", ())), *program.notes),
        files={str(n): (str(f["sha256"]), to_count(f["bytes"])) for n, f in manifest["files"].items()},
        ferrule=str(manifest["ferrule"]),
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
