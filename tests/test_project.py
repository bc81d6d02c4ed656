"""The project file: what it means, how each mistake is told, and a build in which one model fails."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ferrule.cli.init import TEMPLATE
from ferrule.errors import ProjectError
from ferrule.project import NAMES, build_project, find_project, load_project

GOOD = """
models:
  minilm: sample:minilm
  vit: {source: "timm:vit_tiny_patch16_224@weights/vit.pth", calibration: faces.npz, recipes: [w8]}
  mine: {source: net.py:make, devices: [pixel-9]}
devices: [pixel-9:litert, iphone-15-pro:coreml]
recipes:
  - w8a8
  - recipes/mine.json
  - {name: mixed, steps: [{technique: w8a8, options: {skip: ["*.pooler.*"]}}], min_cosine: 0.98}
out: bundles
zip: true
"""

NET = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10)), (torch.randn(4, 64),)

def broken():
    raise RuntimeError("no weights today")
"""


def write(folder: Path, text: str, name: str = "ferrule.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_models_devices_recipes_and_paths(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.json").write_text('{"name": "mine", "steps": [{"technique": "w8"}]}')
    (tmp_path / "faces.npz").write_bytes(b"")
    project = load_project(write(tmp_path, GOOD))
    minilm, vit, mine = project.plans
    assert (minilm.name, minilm.source, minilm.calibration) == ("minilm", "sample:minilm", None)
    assert minilm.devices == ("pixel-9:litert", "iphone-15-pro:coreml")
    assert [recipe.name for recipe in minilm.recipes] == ["w8a8", "mine", "mixed"]
    assert minilm.recipes[2].steps[0].options == {"skip": ["*.pooler.*"]} and minilm.recipes[2].min_cosine == 0.98
    assert vit.source == f"timm:vit_tiny_patch16_224@{tmp_path / 'weights' / 'vit.pth'}"
    assert vit.calibration == tmp_path / "faces.npz" and [recipe.name for recipe in vit.recipes] == ["w8"]
    assert mine.source == f"{tmp_path / 'net.py'}:make" and mine.devices == ("pixel-9",)
    assert (project.out, project.archive, project.expand) == (tmp_path / "bundles", True, False)


def test_json_means_the_same(tmp_path: Path) -> None:
    data = {"models": {"m": "sample:minilm"}, "devices": ["pixel-9"], "recipes": ["fp"], "out": "o"}
    one = load_project(write(tmp_path, json.dumps(data), "ferrule.json"))
    lines = "models: {m: sample:minilm}\ndevices: [pixel-9]\nrecipes: [fp]\nout: o\n"
    two = load_project(write(tmp_path, lines))
    assert one.plans == two.plans and one.out == two.out


def test_the_template_of_init_is_a_project(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, TEMPLATE))
    assert [plan.name for plan in project.plans] == ["minilm"] and project.out == tmp_path / "build"
    # What is commented out is valid as well.
    on = TEMPLATE.replace("  # mine:", "  mine:").replace("  #   ", "    ")
    on = on.replace("# expand", "expand").replace("# kernels", "kernels")
    on = on.replace("  # - {name", "  - {name").replace("# zip", "zip")
    (tmp_path / "samples.npz").write_bytes(b"")
    project = load_project(write(tmp_path, on))
    assert [plan.name for plan in project.plans] == ["minilm", "mine"]
    assert project.expand and project.kernels and project.archive
    assert [recipe.name for recipe in project.plans[0].recipes] == ["w8a8", "careful"]


REST = "devices: [pixel-9]\nrecipes: [fp]\n"
ONE = "models: {m: sample:minilm}\n"
WRONG = [
    ("empty", "FER-PRJ-004", "", "holds nothing"),
    ("list", "FER-PRJ-004", "- a\n", "holds a list"),
    ("syntax", "FER-PRJ-002", "models: {m: [\n", "line 2"),
    ("tab", "FER-PRJ-002", "models:\n\tm: sample:minilm\n", "line 2"),
    ("code", "FER-PRJ-002", ONE + REST + "out: !!python/object/apply:os.system [touch pwned]\n", "line 4"),
    ("deep", "FER-PRJ-002", "models: &a {m: *a}\n", "too many or too deep"),
    ("twice", "FER-PRJ-003", ONE + REST + "devices: [pixel-8]\n", "line 4: key 'devices' stands twice"),
    ("key", "FER-PRJ-003", ONE + REST + "recipies: [w8]\n", "line 4, recipies: there is no such key"),
    ("model key", "FER-PRJ-003", "models:\n  m: {sauce: sample:minilm}\n" + REST, "line 2, models.m.sauce"),
    ("number key", "FER-PRJ-003", "models: {1: sample:minilm}\n" + REST, "line 1: key 1 is no text"),
    ("no models", "FER-PRJ-003", REST, "key 'models' is missing"),
    ("no source", "FER-PRJ-003", "models: {m: {recipes: [fp]}}\n" + REST, "models.m: key 'source' is missing"),
    ("type", "FER-PRJ-004", ONE + "devices: pixel-9\nrecipes: [fp]\n", "line 2, devices is a text; a list is needed"),
    ("item", "FER-PRJ-004", ONE + "devices: [9]\nrecipes: [fp]\n", "devices[0] is a int"),
    ("model type", "FER-PRJ-004", "models: {m: 3}\n" + REST, "models.m is a int; a source is needed"),
    ("recipe type", "FER-PRJ-004", ONE + "devices: [pixel-9]\nrecipes: [[w8]]\n", "recipes[0] is a list"),
    ("out", "FER-PRJ-004", ONE + REST + "out: 3\n", "line 4, out is a int"),
    ("flag", "FER-PRJ-004", ONE + REST + "zip: maybe\n", "zip is a text; needed: true or false"),
    ("name", "FER-PRJ-004", "models: {../m: sample:minilm}\n" + REST, "cannot be the name of a folder"),
    ("case", "FER-PRJ-004", "models: {m: sample:minilm, M: sample:minilm}\n" + REST, "by case only"),
    ("same", "FER-PRJ-004", ONE + "devices: [pixel-9, 'pixel-9:litert']\nrecipes: [fp]\n", "a second time"),
    ("recipes", "FER-PRJ-004", ONE + "devices: [pixel-9]\nrecipes: [{steps: []}, {steps: []}]\n", "'custom'"),
    ("device", "FER-PRJ-005", ONE + "devices:\n  - pixle-9\nrecipes: [fp]\n", "line 3, devices[0]: Unknown device"),
    ("target", "FER-PRJ-005", ONE + "devices: ['pixel-9:tflit']\nrecipes: [fp]\n", "Target 'tflit' is not known"),
    ("recipe", "FER-PRJ-005", ONE + "devices: [pixel-9]\nrecipes: [w9]\n", "line 3, recipes[0]: Recipe or technique"),
    ("option", "FER-PRJ-005", ONE + "devices: [pixel-9]\nrecipes: [{steps: [{technique: w9}]}]\n", "'w9'"),
    ("recipe file", "FER-PRJ-005", ONE + "devices: [pixel-9]\nrecipes: [no.json]\n", "no.json does not exist"),
    ("source", "FER-PRJ-005", "models: {m: minilm}\n" + REST, "line 1, models.m: 'minilm' is not a model spec"),
    ("data", "FER-PRJ-005", "models: {m: {source: sample:minilm, calibration: no.npz}}\n" + REST, "no.npz does not"),
    ("none", "FER-PRJ-006", "models: {}\n" + REST, "names no model"),
    ("no devices", "FER-PRJ-006", ONE + "recipes: [fp]\n", "has no devices"),
    ("no recipes", "FER-PRJ-006", ONE + "devices: [pixel-9]\nrecipes: []\n", "is an empty list"),
]


@pytest.mark.parametrize(("code", "text", "told"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_mistakes_are_told_with_their_place(code: str, text: str, told: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ProjectError) as caught:
        load_project(path)
    assert caught.value.code == code and told in caught.value.message and str(path) in caught.value.message
    assert not (Path.cwd() / "pwned").exists()


def test_the_closest_spelling_is_hinted(tmp_path: Path) -> None:
    for text, close in (
        (ONE + REST + "recipies: [w8]\n", "'recipes'"),
        (ONE + "devices: [pixle-9]\nrecipes: [fp]\n", "'pixel-9'"),
        (ONE + "devices: [pixel-9]\nrecipes: [w8a9]\n", "'w8a8'"),
    ):
        with pytest.raises(ProjectError) as caught:
            load_project(write(tmp_path, text))
        assert close in caught.value.hint


def test_mistakes_in_json(tmp_path: Path) -> None:
    for text, code in (
        ("{", "FER-PRJ-002"),
        ('{"out": "a", "out": "b"}', "FER-PRJ-003"),
        ("[]", "FER-PRJ-004"),
        ("[" * 100_000, "FER-PRJ-002"),
    ):
        with pytest.raises(ProjectError) as caught:
            load_project(write(tmp_path, text, "ferrule.json"))
        assert caught.value.code == code and "ferrule.json" in caught.value.message


def test_aliases_that_grow_without_end_are_refused(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
    with pytest.raises(ProjectError, match="FER-PRJ-002"):
        load_project(write(tmp_path, bomb))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    write(tmp_path, "x" * ((1 << 20) + 1), "large.yaml")
    for name in ("none.yaml", "binary.yaml", "large.yaml", "."):
        with pytest.raises(ProjectError, match="FER-PRJ-001"):
            load_project(tmp_path / name)


def test_finding_the_file(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="FER-PRJ-001.*ferrule init"):
        find_project(tmp_path)
    for name in NAMES:
        path = write(tmp_path, "", name)
        assert find_project(tmp_path) == path
        path.unlink()
    write(tmp_path, "", "ferrule.yaml")
    write(tmp_path, "", "ferrule.json")
    with pytest.raises(ProjectError, match="There are 2 project files"):
        find_project(tmp_path)


@pytest.mark.slow
def test_a_model_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "text.txt").write_text("a sentence\n")
    models = {
        "broken": "net.py:broken",
        "absent": "other.py:make",
        "mixed-up": {"source": "net.py:make", "calibration": "text.txt"},
        "good": "net.py:make",
    }
    data: dict[str, Any] = {"models": models, "devices": ["raspberry-pi-5:onnx", "pixel-9:coreml"], "recipes": ["w8"]}
    project = load_project(write(tmp_path, json.dumps(data), "ferrule.json"))
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "absent").write_text("a file in the way")
    events = []
    built = dict(build_project(project, lambda name, event: events.append((name, event.phase))))
    assert list(built) == list(models) and all(len(rows) == 2 for rows in built.values())
    codes = {name: rows[0].code for name, rows in built.items()}
    assert codes == {"broken": "FER-SRC-003", "absent": "FER-OUT-001", "mixed-up": "FER-INP-004", "good": None}
    good, refused = built["good"]
    assert good.status == "ok" and (refused.status, refused.code) == ("refused", "FER-DEV-002")
    assert good.bundle is not None and Path(good.bundle).parent == tmp_path / "build" / "good"
    assert ("good", "done") in events and ("broken", "failed") in events
    assert sorted(os.listdir(tmp_path / "build")) == ["absent", "broken", "good", "mixed-up"]
