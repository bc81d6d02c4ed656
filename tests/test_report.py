"""The report: a page that stands alone, says every figure, trusts no name, and survives what is missing or damaged."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule.bundle import write_bundle
from ferrule.errors import BundleError, OutputError
from ferrule.program import Dim, OpRow, Parity, Program, Signature, StoredWeights, TensorSpec
from ferrule.proof import Proof
from ferrule.report import collect, render, write
from ferrule.report.delegation import explain_unit
from ferrule.report.labels import Label, merge_labels

VOID = {"br", "meta"}
EVIL = "<script>alert(1)</script><img src=x onerror=y>\"'&amp;</style>$\\frac{$"


class Page(HTMLParser):
    """Reads a page: its tags must nest and close; keeps attributes, ids and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open or tag in VOID, f"<{tag}/> closes nothing in HTML"
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    @property
    def ids(self) -> list[str]:
        return [value for _, name, value in self.attributes if name == "id"]


PARITY = Parity(0.987654, 0.991234, 0.04321, 0.995678, 17, "17 sentences", "onnxruntime")
OPS = (
    OpRow("MatMul", "cpu:mlas", "kernel of the CPU provider", 96, "net.py:7", "measured"),
    OpRow("Gather", "cpu|gpu", "int64", 4),
)
WEIGHTS = (StoredWeights("embedding", 3000, 12000), StoredWeights("linear", 5000, 5100))
PROGRAM = Program(
    target="onnx",
    main="model.onnx",
    entry_points={
        "forward": Signature(
            inputs=(TensorSpec("ids", "int64", (1, "tokens")),),
            outputs=(TensorSpec("vector", "float32", (1, 321)),),
            dims={"tokens": Dim("tokens", 2, 253)},
            padding={"ids": 9.0},
            buckets=(31, 127),
        )
    },
    delegation=OPS,
    weights=WEIGHTS,
    notes=("Activations stay in float32.",),
    tools={"onnx": "1.23.4"},
    parity=PARITY,
)
FACTS = {
    "model": {"source": "hf:tiny", "notes": ["One head was dropped."]},
    "recipe": {"name": "w8", "min_cosine": 0.98, "steps": [{"technique": "w8", "options": {"group": 32}}]},
    "device": {"name": "raspberry-pi-5", "title": "Raspberry Pi 5"},
}
FIGURES = {  # how the page writes what the rows below hold
    *("0.987654", "0.991234", "0.0432", "0.995678", "0.98", "17 sentences", "onnxruntime"),
    *("18\u202f000", "0.018", "56.2", "3\u202f000", "5\u202f000", "12\u202f000", "5\u202f100", "25.5", "17\u202f100"),
    *(
        "95.30",
        "−0.50",
        "+0.50",
        "95.80",
        "4.12",
        "4.23",
        "4.56",
        "4.89",
        "5.67",
        "6.78",
        "91.2",
        "73",
        "Test CPU",
        "3 cores",
        "Linux test",
    ),
    *("96.0", "4.0", "net.py:7", "kernel of the CPU provider", "measured", "predicted", "1.23.4"),
    *("1 × tokens", "1 × 321", "tokens runs from 2 to 253", "31, 127", "w8 group=32", "hf:tiny", "Raspberry Pi 5"),
    *(
        "block.12.fc",
        "0.0120",
        "0.988000",
        "0.0417",
        "lose it",
        "The other 1 layer",
        "int8 weights, a scale for each",
    ),
    *("Activations stay in float32.", "One head was dropped.", "eager float32", "a task", "measure it"),
}


def add_bundle(folder: Path, name: str, program: Program = PROGRAM, facts: Mapping[str, Any] = FACTS) -> Path:
    """A bundle of an 18 000 byte artefact, without any toolkit."""
    root = folder.parent / f"program-{folder.name}"
    root.mkdir(exist_ok=True)
    (root / program.main).write_bytes(bytes(range(250)) * 72)
    arrays = {"vector": np.ones((1, 3), np.float32)}
    proof = Proof(({"ids": np.ones((1, 3), np.int64)},), (arrays,), (arrays,), "17 sentences")
    return write_bundle(replace(program, root=root), folder / name, facts, {}, proof).root


def write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def row(bundle: str | None, status: str = "ok", **more: Any) -> dict[str, Any]:
    return {"device": "raspberry-pi-5", "target": "onnx", "recipe": "w8", "status": status, "bundle": bundle, **more}


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """Two bundles that coincide in the charts, a refusal, a failure, and both optional files."""
    folder = tmp_path / "build"
    names = ["a.ferrule", "b.ferrule"]
    for name in names:
        add_bundle(folder, name)
    refused = row(None, "refused", code="FER-TGT-003", reason="No int4 <here>.", hint="Use w8.", device="pixel-9")
    failed = row(None, "failed", code="FER-LOW-001", reason="It broke.", hint="Read it.", log="/some/where/x.log")
    write_json(folder / "build.json", {"schema": 1, "results": [*(row(name) for name in names), refused, failed]})
    accuracies = dict(zip(names, (0.953, 0.963), strict=True))
    reference = {"name": "eager float32", "accuracy": 0.958}
    write_json(
        folder / "accuracy.json",
        {"task": "a task", "command": "measure it", "reference": reference, "results": accuracies},
    )
    times = {"p10": 4.12, "p25": 4.23, "p50": 4.56, "p75": 4.89, "p90": 5.67, "p99": 6.78}
    found = {
        "engine": "onnxruntime",
        "threads": 1,
        "runs": 30,
        "latency_ms": times,
        "load_ms": 91.2,
        "peak_rss_mb": 73.4,
    }
    machine = {"cpu": "Test CPU", "cores": 3, "system": "Linux test"}
    write_json(
        folder / "measurements.json", {"machine": machine, "command": "measure it", "results": {"a.ferrule": found}}
    )
    write_json(folder / "sensitivity.json", sensitivity(13))
    return folder


def sensitivity(count: int) -> dict[str, Any]:
    """Losses of `count` layers, of which a later one loses more."""
    layers = [
        {"name": f"block.{n}.fc", "kind": "linear", "elements": 64 + n, "loss": n / 1000, "cosine": 1 - n / 1000}
        for n in range(count)
    ]
    told = {"model": "hf:tiny", "recipe": "w8", "metric": "1 − cosine of the outputs", "command": "lose it"}
    return {"schema": 1, **told, "baseline": {"loss": 0.0417}, "layers": layers}


def sign(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest as its author could, digest and all."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    body = {k: v for k, v in manifest.items() if k != "digest"}
    manifest["digest"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest))


def assert_alone(text: str) -> Page:
    """The page parses, fetches nothing, runs nothing, and each of its links ends inside it."""
    page = Page(text)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image"}
    assert "http:" not in text.lower() and "https:" not in text.lower() and "@import" not in text
    assert len(set(page.ids)) == len(page.ids)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert value.startswith("#") and value[1:] in page.ids, (tag, name, value)
    for target in re.findall(r"url\(([^)]*)\)", text):
        assert target.startswith("#") and target[1:] in page.ids, target
    return page


def test_the_page_stands_alone_and_holds_every_figure(build: Path) -> None:
    text = render(collect(build))
    page = assert_alone(text)
    assert text.startswith("<!DOCTYPE html>\n<html")
    assert {figure for figure in FIGURES if figure not in page.text} == set()
    assert "4 targets: 2 built, 1 refused, 1 failed." in page.text
    assert {i for i in page.ids if i.startswith("chart-")} == {
        *("chart-size", "chart-latency", "chart-cosine", "chart-cosine-latency"),
        *("chart-accuracy", "chart-accuracy-latency", "chart-sensitivity"),
    }
    manifest = json.loads((build / "a.ferrule/manifest.json").read_text())
    assert all(name in page.text and found["sha256"] in page.text for name, found in manifest["files"].items())


def test_refused_and_failed_rows_say_code_reason_and_next_step(build: Path) -> None:
    text = render(collect(build))
    page = Page(text)
    for told in ("FER-TGT-003", "No int4 <here>.", "Use w8.", "FER-LOW-001", "It broke.", "Read it.", "x.log"):
        assert told in page.text
    assert "<here>" not in text and "/some/where" not in text
    assert {"target-1", "target-2", "target-3", "target-4"} <= set(page.ids)


def test_strings_of_a_model_stay_text(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    spec = TensorSpec(EVIL, EVIL, (EVIL,))
    program = replace(
        PROGRAM,
        entry_points={EVIL: Signature((spec,), (spec,), {EVIL: Dim(EVIL, 1, 2)}, {EVIL: 0})},
        delegation=(OpRow(EVIL, EVIL, EVIL, 1, EVIL, EVIL), OpRow("Add", "\u202ecpu\x00", "r")),
        weights=(StoredWeights(EVIL, 10, 40),),
        notes=(EVIL,),
        tools={EVIL: EVIL},
        parity=replace(PARITY, source=EVIL, engine=EVIL),
    )
    facts = {
        "model": {"source": EVIL, "notes": [EVIL]},
        "recipe": {"name": EVIL, "min_cosine": 0.9, "steps": [{"technique": EVIL, "options": {EVIL: EVIL}}]},
        "device": {"name": EVIL, "title": EVIL},
    }
    add_bundle(folder, "a.ferrule", program, facts)
    refused = row(None, EVIL, device=EVIL, target=EVIL, recipe=EVIL, code=EVIL, reason=EVIL, hint=EVIL, log=EVIL)
    write_json(folder / "build.json", {"results": [row("a.ferrule"), refused]})
    machine = {"cpu": EVIL, "cores": 1, "system": EVIL}
    write_json(folder / "measurements.json", {"machine": machine, "command": EVIL, "results": {}})
    reference = {"name": EVIL, "accuracy": 0.5}
    write_json(
        folder / "accuracy.json",
        {"task": EVIL, "command": EVIL, "reference": reference, "results": {"a.ferrule": 0.5}},
    )
    text = render(collect(folder))
    page = assert_alone(text)
    assert page.text.count(EVIL) > 30
    assert not set(text) & {"\u202e", "\x00"} and "<script" not in text and "onerror=y>" not in text


def test_the_same_build_gives_the_same_bytes(build: Path, tmp_path: Path) -> None:
    first = write(build, tmp_path / "one.html").read_bytes()
    assert first == write(build, tmp_path / "new" / "two.html").read_bytes()
    code = "import sys, pathlib; from ferrule.report import write; write(*map(pathlib.Path, sys.argv[1:]))"
    third = tmp_path / "three.html"
    run_python(code, str(build), str(third), PYTHONHASHSEED="7")
    assert first == third.read_bytes()
    assert not list(tmp_path.glob(".ferrule-report-*"))


def run_python(code: str, *arguments: str, **environment: str) -> None:
    paths = os.pathsep.join(path for path in sys.path if path)
    subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, env={**os.environ, "PYTHONPATH": paths, **environment}
    )


def test_without_matplotlib_the_page_says_so(build: Path, tmp_path: Path) -> None:
    blocked = (
        "import sys, pathlib\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'matplotlib':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from ferrule.report import write\n"
        "write(*map(pathlib.Path, sys.argv[1:]))\n"
    )
    run_python(blocked, str(build), str(tmp_path / "plain.html"))
    page = assert_alone((tmp_path / "plain.html").read_text(encoding="utf-8"))
    assert "matplotlib is not installed" in page.text and "pip install 'ferrule[report]'" in page.text
    assert "svg" not in page.tags and {f for f in FIGURES if f not in page.text} == set()


def truncate(bundle: Path) -> None:
    (bundle / "program/model.onnx").write_bytes(b"short")


def drop_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()


def edit_manifest(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace("hf:tiny", "hf:else"))


def forge(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda bundle: sign(bundle, change)


DAMAGES = {
    "changed file": (truncate, "FER-BUN-003"),
    "no manifest": (drop_manifest, "FER-BUN-001"),
    "edited manifest": (edit_manifest, "FER-BUN-002"),
    "endless size": (forge(lambda m: m.update(size_bytes=float("inf"))), "FER-BUN-002"),
    "huge size": (forge(lambda m: m.update(size_bytes=10**400)), "FER-BUN-002"),
    "negative weight": (forge(lambda m: m["program"]["weights"][0].update(bytes=-1)), "FER-BUN-002"),
    "worded cosine": (forge(lambda m: m["program"]["parity"].update(cosine="high")), "FER-BUN-002"),
    "worded padding": (
        forge(lambda m: m["program"]["entry_points"]["forward"]["padding"].update(ids="x")),
        "FER-BUN-002",
    ),
    "odd weights": (forge(lambda m: m["program"].update(weights=[{"kind": "linear"}])), "FER-BUN-002"),
    "no device": (forge(lambda m: m.pop("device")), "FER-BUN-002"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_a_row_with_its_reason_and_no_figure(build: Path, damage: str) -> None:
    spoil, code = DAMAGES[damage]
    spoil(build / "b.ferrule")
    data = collect(build)
    good, bad = data.rows[:2]
    assert (good.status, good.built is None) == ("ok", False)
    assert (bad.status, bad.code, bad.built, bad.accuracy) == ("damaged", code, None, None)
    page = assert_alone(render(data))
    assert code in page.text and "1 damaged" in page.text and "None are shown" in page.text
    assert "0.987654" in page.text and "96.30" not in page.text


def test_bundles_alone_are_enough(build: Path) -> None:
    for name in ("build.json", "accuracy.json", "measurements.json", "sensitivity.json"):
        (build / name).unlink()
    data = collect(build)
    assert [r.bundle for r in data.rows] == ["a.ferrule", "b.ferrule"] and not data.problems
    page = assert_alone(render(data))
    assert "Not measured for this report: accuracy, host latency." in page.text
    assert "Host p50" not in page.text and "Accuracy" not in page.text and "raspberry-pi-5" in page.text


@pytest.mark.parametrize("content", ["{", "[]", '{"results": 3}', "\xff", '{"machine": {"cpu": "x"}, "task": "t"}'])
@pytest.mark.parametrize("name", ["build.json", "accuracy.json", "measurements.json", "sensitivity.json"])
def test_an_unreadable_file_is_told_and_left_out(build: Path, name: str, content: str) -> None:
    (build / name).write_bytes(content.encode("latin-1"))
    data = collect(build)
    if (name, content[:4]) != ("build.json", '{"ma'):  # an object without results: nothing is listed, nothing is wrong
        assert len(data.problems) == 1 and name in data.problems[0]
    page = assert_alone(render(data))
    assert "0.987654" in page.text and all(problem in page.text for problem in data.problems)


def test_layers_are_shown_worst_first_and_the_rest_is_counted(build: Path) -> None:
    write_json(build / "sensitivity.json", sensitivity(33))
    text = render(collect(build))
    drawing = text[text.index("Loss by layer") : text.index("</figure>", text.index("Loss by layer"))]
    named = re.findall(r">(block\.\d+\.fc)</text>", drawing)
    assert named == [f"block.{n}.fc" for n in range(32, 2, -1)]
    assert "3 more layers lose 0.002 or less each." in drawing
    table = Page(text).text.partition("Sensitivity by layer")[2]
    places = [table.index(f"block.{n}.fc", table.index("Cosine")) for n in range(32, -1, -1)]
    assert places == sorted(places)


def test_measurements_of_older_versions_have_no_lower_end(build: Path) -> None:
    path = build / "measurements.json"
    data = json.loads(path.read_text())
    for name in ("p10", "p25", "p75"):
        del data["results"]["a.ferrule"]["latency_ms"][name]
    write_json(path, data)
    found = collect(build)
    assert not found.problems and found.rows[0].latency and found.rows[0].latency.p10 is None
    assert "p50 where p10 was not kept" in Page(render(found)).text


def test_reasons_are_grouped_with_their_source_lines(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    ops = tuple(OpRow("Add", "cpu:builtin", "no kernel", n, f"net.py:{n}", "measured") for n in range(1, 7))
    add_bundle(folder, "a.ferrule", replace(PROGRAM, delegation=(*ops, OpRow("Mul", "cpu:builtin", "no kernel", 30))))
    page = assert_alone(render(collect(folder)))
    assert "Mul × 30, Add × 21" in page.text
    assert "net.py:6 × 6, net.py:5 × 5, net.py:4 × 4, net.py:3 × 3, 2 more below" in page.text


def test_models_of_one_folder_have_charts_of_their_own(build: Path) -> None:
    add_bundle(build, "c.ferrule", facts={**FACTS, "model": {"source": "hf:other"}})
    data = collect(build)
    page = assert_alone(render(data))
    assert data.sources == ("hf:tiny", "hf:other") and {"chart-size-1", "chart-size-2"} <= set(page.ids)
    assert ("td", "data-label", "Model") in page.attributes


def test_numbers_that_are_none_are_refused(build: Path) -> None:
    path = build / "accuracy.json"
    path.write_text(path.read_text().replace("0.953", "NaN"))
    data = collect(build)
    assert data.accuracy is None and "not a finite number" in data.problems[0]


def test_a_bundle_that_build_json_names_elsewhere_is_sought_in_the_folder(build: Path) -> None:
    write_json(build / "build.json", {"results": [row("../../a.ferrule"), row("/etc/gone.ferrule"), 3]})
    data = collect(build)
    assert [(r.bundle, r.status) for r in data.rows] == [
        ("a.ferrule", "ok"),
        ("gone.ferrule", "damaged"),
        ("b.ferrule", "ok"),
    ]
    assert len(data.problems) == 1


def test_only_refusals_make_a_page_too(tmp_path: Path) -> None:
    write_json(tmp_path / "build.json", {"results": [row(None, "refused", code="FER-TGT-003", reason="No.")]})
    page = assert_alone(render(collect(tmp_path)))
    assert "1 target: 0 built, 1 refused, 0 failed." in page.text and "svg" not in page.tags


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        collect(tmp_path)
    assert caught.value.code == "FER-BUN-001"


def test_a_page_that_cannot_be_written_leaves_nothing_behind(build: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "report.html").mkdir(parents=True)
    with pytest.raises(OutputError) as caught:
        write(build, out / "report.html")
    assert caught.value.code == "FER-OUT-001" and [p.name for p in out.iterdir()] == ["report.html"]


def test_points_that_coincide_share_a_label(build: Path) -> None:
    text = render(collect(build))
    drawing = text[text.index('id="chart-cosine"') - 200 : text.index("</figure>", text.index('id="chart-cosine"'))]
    assert re.search(r"<text[^>]*>1, 2</text>", drawing) and "share one label" in drawing


def test_no_label_prints_over_another() -> None:
    spots = np.random.default_rng(0).uniform((0, 0), (300, 150), (40, 2))
    merged = merge_labels([Label((n,), ((float(x), float(y)),)) for n, (x, y) in enumerate(spots, 1)])
    assert sorted(n for label in merged for n in label.numbers) == list(range(1, 41))
    assert 1 < len(merged) < 40
    assert not any(a.collides(b) for a, b in permutations(merged, 2))
    apart = [Label((1,), ((0.0, 0.0),)), Label((2,), ((60.0, 0.0),)), Label((3,), ((0.0, 40.0),))]
    assert merge_labels(apart) == apart


def test_a_label_of_many_points_is_short() -> None:
    here = ((1.0, 1.0),)
    assert [m.text for m in merge_labels([Label((n,), here) for n in (4, 3, 5, 8, 1)])] == ["1, 3–5, 8"]
    assert Label((4, 3), here).text == "3, 4"


def test_units_are_explained(build: Path) -> None:
    assert explain_unit("ane|gpu|cpu").startswith("Apple's Neural Engine, GPU or CPU: ")
    assert explain_unit("cpu:xnnpack") == "CPU, by XNNPACK" and explain_unit("dsp") == "dsp"
    page = Page(render(collect(build)))
    assert "CPU or GPU: the runtime chooses when it loads the model" in page.text
    assert "CPU, by ONNX Runtime's own kernels (MLAS)" in page.text
    assert ("span", "style", "width:96.0%") in page.attributes


def test_the_core_ml_interpreter_is_never_taken_for_apples_runtime(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    program = replace(PROGRAM, target="coreml", parity=replace(PARITY, engine="coreml-reference"))
    add_bundle(folder, "a.ferrule", program)
    page = Page(render(collect(folder)))
    assert page.text.count("not Apple's runtime") == 3  # in the row, under the table, beside the parity


def test_a_bundle_without_parity_or_ops_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    add_bundle(folder, "a.ferrule", replace(PROGRAM, parity=None, delegation=(), weights=(), notes=()))
    page = assert_alone(render(collect(folder)))
    assert "Not measured: the bundle holds no parity." in page.text and "gave no table of ops" in page.text
