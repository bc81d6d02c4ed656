"""Recipes: presets by name, the grammar, files, and strictness about everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ferrule.catalog import TECHNIQUES
from ferrule.errors import RecipeError
from ferrule.recipe import Recipe, Step, load_recipe, preset_names


@pytest.mark.parametrize("name", sorted({*preset_names(), "fp", "w8", "w8a8", "w4g32", "emb8", "w4g32-rtn"}))
def test_every_preset_loads_and_survives_json(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    for step in recipe.steps:
        TECHNIQUES[step.technique].read_options(step.options)
    assert bool(recipe.steps) == (name != "fp")


def test_techniques_are_joined_in_order_and_the_loosest_bound_holds() -> None:
    recipe = load_recipe("w8a8-emb8")
    assert [s.technique for s in recipe.steps] == ["w8a8", "emb8"]
    assert recipe.min_cosine == min(TECHNIQUES[n].min_cosine for n in ("w8a8", "emb8"))
    assert [s.technique for s in load_recipe("emb8-w4g32").steps] == ["emb8", "w4g32"]


def test_the_rounding_variant_differs_from_its_plain_preset() -> None:
    assert load_recipe("w4g32-rtn").steps == (Step("w4g32", {"rounding": "rtn"}),)
    assert load_recipe("w4g32").steps == (Step("w4g32"),)


def test_a_recipe_passes_through_after_the_same_checks() -> None:
    recipe = Recipe("mine", (Step("w8", {"skip": ("head*",)}),), 0.9)
    assert load_recipe(recipe) is recipe
    for wrong in (Recipe("x", (Step("w9"),)), Recipe("x", (Step("w8", {"bits": 3}),)), Recipe("x", (), 2.0)):
        with pytest.raises(RecipeError):
            load_recipe(wrong)


def test_a_recipe_from_a_file_is_named_after_it(tmp_path: Path) -> None:
    path = tmp_path / "café.json"
    path.write_text('{"steps": [{"technique": "w8", "options": {"skip": ["é*"]}}], "min_cosine": 1}', encoding="utf-8")
    for spec in (path, str(path)):
        recipe = load_recipe(spec)
        assert recipe == Recipe("café", (Step("w8", {"skip": ["é*"]}),), 1.0)


@pytest.mark.parametrize(
    ("name", "close"),
    [("w8a9", "w8a8"), ("W8A8", "w8a8"), ("w4g64", "w4g32"), ("", ""), ("w8_a8", "w8a8"), ("w8-", "w8")],
)
def test_an_unknown_name_lists_the_known_ones(name: str, close: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    error = caught.value
    assert error.code == "FER-REC-001" and repr(name) in error.message
    assert all(known in error.message for known in preset_names())
    assert close in error.hint and "w8a8-emb8" in error.hint


def test_a_preset_name_is_never_a_path(tmp_path: Path) -> None:
    for name in ("../recipes/fp", str(tmp_path / "fp"), "fp.JSON"):
        with pytest.raises(RecipeError) as caught:
            load_recipe(name)
        assert caught.value.code == "FER-REC-001"


WRONG: list[tuple[Any, str]] = [
    ({"stepps": []}, "stepps"),
    ({"steps": {}}, "'steps' is a dict"),
    ({"steps": "w8"}, "'steps' is a str"),
    ({"steps": ["w8"]}, "A step is 'w8'"),
    ({"steps": [{"technique": 8}]}, "A step is"),
    ({"steps": [{}]}, "A step is"),
    ({"steps": [{"technique": "w8", "option": {}}]}, "['option']"),
    ({"steps": [{"technique": "w8", "options": []}]}, "'options' is []"),
    ({"steps": [{"technique": "w8", "options": None}]}, "'options' is None"),
    ({"steps": [{"technique": "w8", "options": {"bits": 8}}]}, "no options ['bits']; it has ['layers', 'skip']"),
    ({"steps": [{"technique": "w8", "options": {"skip": "head"}}]}, "'skip' of 'w8' is 'head'; a list of texts"),
    ({"steps": [{"technique": "w8", "options": {"skip": [1]}}]}, "'skip' of 'w8' is [1]; a list of texts"),
    ({"steps": [{"technique": "emb8", "options": {"min_rows": True}}]}, "'min_rows' of 'emb8' is True; a int"),
    ({"steps": [{"technique": "emb8", "options": {"min_rows": 1.5}}]}, "'min_rows'"),
    ({"steps": [{"technique": "w4g32", "options": {"rounding": "up"}}]}, "allowed: mse, rtn"),
    ({"steps": [{"technique": "w4g32", "options": {"activations": "int8"}}]}, "allowed: dynamic, none"),
    ({"steps": [{"technique": "lut4", "options": {"bits": 2}}]}, "'bits' in its name and among its options"),
    ({"steps": [{"technique": "lut5"}]}, "bits is 5; allowed: 1, 2, 3, 4, 6, 8"),
    ({"min_cosine": "high"}, "'min_cosine' is 'high'"),
    ({"min_cosine": 1.5}, "'min_cosine' is 1.5"),
    ({"min_cosine": True}, "'min_cosine' is True"),
    ({"min_cosine": float("nan")}, "'min_cosine' is nan"),
]


@pytest.mark.parametrize(("data", "told"), WRONG, ids=[told for _, told in WRONG])
def test_anything_else_in_a_recipe_is_refused(data: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(data))
    for spec in (data, path):
        with pytest.raises(RecipeError) as caught:
            load_recipe(spec)
        assert caught.value.code == "FER-REC-003" and told in caught.value.message


def test_an_unknown_technique_in_a_file_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="w4g32, w4g32-rtn, w8, w8a8") as caught:
        load_recipe({"steps": [{"technique": "w8a88"}]})
    assert caught.value.code == "FER-REC-001" and "'w8a8'" in caught.value.hint


@pytest.mark.parametrize("content", [b"{", b"[]", b"3", b"\xff\xfe", None])
def test_a_file_that_is_no_recipe_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.code == "FER-REC-003" and str(path) in caught.value.message


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("lut4", [("lut", {"bits": 4})]),
        ("w8a8-static", [("w8a8-static", {})]),
        ("emb8-w8a8-static", [("emb8", {}), ("w8a8-static", {})]),
        ("w8a8-emb8-lut2", [("w8a8", {}), ("emb8", {}), ("lut", {"bits": 2})]),
    ],
)
def test_names_are_split_into_the_longest_techniques(name: str, steps: list[tuple[str, dict[str, int]]]) -> None:
    assert [(s.technique, dict(s.options)) for s in load_recipe(name).steps] == steps


@pytest.mark.parametrize("name", ["w8a8-dynamic", "static", "lut", "lut4-", "-lut4", "lut5", "lut99999999999999999999"])
def test_names_that_are_no_recipe(name: str) -> None:
    if name == "lut":
        assert load_recipe(name).steps[0].options == {}
        return
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    assert caught.value.code in ("FER-REC-001", "FER-REC-003")
