"""Sentences to model inputs, by the tokenizer that travels in the bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["sentences", "tokenize"]


def sentences() -> list[str]:
    """The fifty English sentences that text models are proven on."""
    return (Path(__file__).parent / "data" / "sentences.txt").read_text(encoding="utf-8").splitlines()


@lru_cache(maxsize=4)
def _tokenizer(path: str) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # the library raises bare Exception for every kind of damage
        raise InputError("FER-INP-008", f"Tokenizer {path} cannot be read: {error}.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def tokenize(
    tokenizer: Path, lines: Iterable[str], max_length: int, names: Iterable[str] = ("input_ids", "attention_mask")
) -> list[Mapping[str, NDArray[np.int64]]]:
    """One dict of int64 arrays [1, tokens] a line, cut at `max_length`; of the fields named, those that exist.

    Raises InputError FER-INP-007 when there is no line.
    """
    import numpy as np

    encoder = _tokenizer(str(tokenizer))
    encoder.enable_truncation(max_length)
    out: list[Mapping[str, NDArray[np.int64]]] = []
    for encoding in encoder.encode_batch(list(lines)):
        fields = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        out.append({name: np.asarray([fields[name]], dtype=np.int64) for name in names if name in fields})
    if not out:
        raise InputError("FER-INP-007", "There is no sentence to tokenize.", "Give at least one line of text.")
    return out
