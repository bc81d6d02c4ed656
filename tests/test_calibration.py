"""Calibration files: each form is read as inputs of the model, and what does not fit is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from ferrule.calibration import load_calibration
from ferrule.errors import InputError
from ferrule.flow import compress
from ferrule.model import Dim, EntryPoint, Model
from ferrule.text import tokenize


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(40, 64)
        self.head = nn.Linear(64, 64)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        y: Tensor = self.head(self.table(input_ids) * attention_mask[..., None])
        return y


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    made = Tokenizer(WordLevel({"[UNK]": 0, "one": 1, "two": 2, "three": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


@pytest.fixture
def text(tokenizer: Path) -> Model:
    tokens = {1: Dim("tokens", 2, 16)}
    ids = torch.tensor([[1, 2, 3]])
    entry = EntryPoint(
        Text().eval(),
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        {"input_ids": tokens, "attention_mask": tokens},
    )
    processing = {"kind": "text", "tokenizer": "tokenizer.json", "max_length": 8}
    return Model({"forward": entry}, "test", assets={"tokenizer.json": tokenizer}, processing=processing)


@pytest.fixture
def image() -> Model:
    inputs = {"x": torch.zeros(1, 3, 4, 4), "scale": torch.ones(1)}
    return Model({"forward": EntryPoint(nn.Identity(), inputs)}, "test")


def write(folder: Path, suffix: str, arrays: Mapping[str, Any]) -> Path:
    path = folder / f"data{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path)
    return path


def refusal(path: Path, model: Model) -> InputError:
    with pytest.raises(InputError) as caught:
        load_calibration(path, model)
    return caught.value


def test_sentences_are_tokenized_and_cut(text: Model, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("one two\n\n  \nthree two one\n" + "two " * 30 + "\n", encoding="utf-8")
    rows = load_calibration(path, text)
    assert [row["input_ids"].tolist() for row in rows] == [[[1, 2]], [[3, 2, 1]], [[2] * 8]]
    assert all(torch.equal(row["attention_mask"], torch.ones_like(row["input_ids"])) for row in rows)
    assert [row["input_ids"].dtype for row in rows] == [torch.int64] * 3
    assert len(load_calibration(path, text, limit=2)) == 2


def test_tokenizing_nothing_or_with_a_damaged_tokenizer(tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        tokenize(tokenizer, [], 8)
    assert caught.value.code == "FER-INP-007"
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="tokenizer.json cannot be read") as caught:
        tokenize(tmp_path / "tokenizer.json", ["one"], 8)
    assert caught.value.code == "FER-INP-008"


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_with_or_without_a_batch_axis(suffix: str, image: Model, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32)
    scale = np.arange(5, dtype=np.float32)
    rows = load_calibration(write(tmp_path, suffix, {"scale": scale, "x": x}), image)
    assert len(rows) == 5 and list(rows[0]) == ["x", "scale"]
    assert np.array_equal(rows[2]["x"].numpy(), x[2:3]) and rows[2]["scale"].tolist() == [2.0]
    batched = load_calibration(write(tmp_path, suffix, {"scale": scale[:, None], "x": x[:, None]}), image, limit=3)
    assert len(batched) == 3 and torch.equal(batched[2]["x"], rows[2]["x"])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_order_of_arrays_in_a_file_makes_no_difference(suffix: str, text: Model, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(1, 40, (6, 1, 5))
    arrays = {"attention_mask": np.ones_like(ids), "input_ids": ids}
    rows = [{k: torch.from_numpy(arrays[k][i]) for k in ("input_ids", "attention_mask")} for i in range(6)]
    expected = compress(text, "w4g32", calibration=rows)
    found = compress(text, "w4g32", calibration=write(tmp_path, suffix, arrays))
    codes = [m.entry_points["forward"].module.get_submodule("head").codes for m in (expected, found)]
    assert torch.equal(codes[0], codes[1])


GOOD = {"x": np.zeros((2, 3, 4, 4), np.float32), "scale": np.ones(2, np.float32)}
WRONG = [
    ({"x": GOOD["x"]}, "FER-INP-004", "['x']; the model's inputs are ['scale', 'x']"),
    ({**GOOD, "extra": GOOD["scale"]}, "FER-INP-004", "'extra'"),
    ({**GOOD, "scale": np.ones(3, np.float32)}, "FER-INP-005", "different numbers of samples"),
    ({**GOOD, "x": np.zeros((2, 3, 4, 5), np.float32)}, "FER-INP-005", "[1, 3, 4, 5]; allowed: [1, 3, 4, 4]"),
    ({**GOOD, "x": np.zeros((2, 4, 4), np.float32)}, "FER-INP-005", "shape [4, 4]"),
    ({**GOOD, "x": np.zeros((2, 3, 4, 4))}, "FER-INP-006", "torch.float64; torch.float32 is needed"),
    ({**GOOD, "x": np.full((2, 3, 4, 4), np.nan, np.float32)}, "FER-INP-006", "NaN or infinite"),
    ({**GOOD, "scale": np.array(["a", "b"])}, "FER-INP-006", "sample 0"),
    ({"x": np.zeros((0, 3, 4, 4), np.float32), "scale": np.ones(0, np.float32)}, "FER-INP-007", "no sample"),
    ({"x": np.float32(1), "scale": np.float32(1)}, "FER-INP-007", "no sample"),
]


@pytest.mark.parametrize(("arrays", "code", "told"), WRONG, ids=[told for _, _, told in WRONG])
def test_arrays_that_do_not_fit(arrays: dict[str, Any], code: str, told: str, image: Model, tmp_path: Path) -> None:
    error = refusal(write(tmp_path, ".npz", arrays), image)
    assert error.code == code and told in error.message


def test_lengths_out_of_range_are_told_with_the_range(text: Model, tmp_path: Path) -> None:
    ids = np.ones((1, 17), np.int64)
    error = refusal(write(tmp_path, ".npz", {"input_ids": ids, "attention_mask": ids}), text)
    assert error.code == "FER-INP-005" and "[1, 17]; allowed: [1, tokens 2..16]" in error.message


@pytest.mark.parametrize("name", ["none.txt", "none.npz", "none.safetensors", "bad.npz", "bad.safetensors", "data.csv"])
def test_files_that_cannot_be_read(name: str, text: Model, tmp_path: Path) -> None:
    path = tmp_path / name
    if not name.startswith("none"):
        path.write_bytes(b"not data")
    error = refusal(path, text)
    assert error.code == "FER-INP-008" and str(path) in error.message


def test_objects_in_an_npz_are_never_unpickled(image: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.array([{}], dtype=object), scale=np.ones(1, np.float32))
    assert refusal(tmp_path / "data.npz", image).code == "FER-INP-008"


def test_text_files_that_hold_nothing_or_meet_no_tokenizer(text: Model, image: Model, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("\n \n")
    assert refusal(path, text).code == "FER-INP-007"
    path.write_bytes(b"\xff\xfe\xff")
    assert refusal(path, text).code == "FER-INP-008"
    error = refusal(path, image)
    assert error.code == "FER-INP-004" and "no tokenizer" in error.message and ".npz" in error.hint
