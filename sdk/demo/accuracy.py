"""Accuracy of a sentence encoder on Reuters R8: a logistic head on its embeddings of 64 tokens.

The head is fitted once, on the float32 model's embeddings, and kept for every artefact: that is what happens to an app
whose encoder is exchanged for a compressed one, and harder than fitting a new head for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.data.reuters import Documents, load_r8
from ferrule.text import tokenize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ferrule.model import Model

__all__ = ["TASK", "TOKENS", "Head", "bundle_accuracies", "embed_bundle", "embed_eager", "fit_head"]

TOKENS = 64
TASK = "Reuters R8, logistic head on frozen float32 embeddings of 64 tokens, 1200 train / 1000 test documents"


@dataclass(frozen=True)
class Head:
    """A fitted logistic regression, the test documents, and the float32 model's own accuracy (a fraction)."""

    classifier: Any
    test: Documents
    reference: float

    def score(self, embeddings: NDArray[np.float32]) -> float:
        """Share of test documents whose topic is told from their embeddings [documents, width]."""
        return float(self.classifier.score(embeddings, self.test.labels))


def fit_head(model: Model) -> Head:
    """Embed the training documents by the eager model and fit the head."""
    from sklearn.linear_model import LogisticRegression

    train, test = load_r8()
    classifier = LogisticRegression(max_iter=1000).fit(embed_eager(model, train.texts), train.labels)
    return Head(classifier, test, float(classifier.score(embed_eager(model, test.texts), test.labels)))


def embed_eager(model: Model, texts: Sequence[str], batch: int = 50) -> NDArray[np.float32]:
    """Embeddings [texts, width] by the model's own module, in batches of padded rows."""
    import torch

    module = model.entry_points["forward"].module
    rows = tokenize(model.assets["tokenizer.json"], texts, TOKENS)
    parts = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        ids, mask = np.zeros((2, len(part), TOKENS), dtype=np.int64)
        for index, row in enumerate(part):
            length = row["input_ids"].shape[1]
            ids[index, :length] = row["input_ids"]
            mask[index, :length] = 1
        with torch.no_grad():
            parts.append(module(torch.from_numpy(ids), torch.from_numpy(mask)).numpy())
    return np.concatenate(parts)


def embed_bundle(bundle: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embeddings [texts, width] by a bundle in its own engine, one text at a time, as an app would."""
    from ferrule.runtime.session import Session

    tokenizer = Path(bundle) / "assets" / "tokenizer.json"
    with Session.open(bundle) as session:
        return np.concatenate([session.run(row)["embedding"] for row in tokenize(tokenizer, texts, TOKENS)])


def bundle_accuracies(bundles: Sequence[str], head: Head) -> dict[str, float]:
    """Accuracy of each bundle, two at a time in processes of their own."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = {bundle: pool.submit(embed_bundle, bundle, head.test.texts) for bundle in bundles}
        return {bundle: head.score(future.result()) for bundle, future in futures.items()}
