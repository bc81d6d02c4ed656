"""Sound in: encoders of transformers, and small recurrent and convolutional networks written here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.zoo.checkpoints import toy
from benchmarks.zoo.lively import enliven
from ferrule.model import EntryPoint, Model

__all__ = ["Keywords", "Separator", "encoder_model", "sound_model"]


def sound_model(name: str, module: nn.Module, shape: tuple[int, ...], count: int = 4) -> Model:
    """A module of one tensor [1, …], proven on sums of tones with noise along the last axis."""
    generator = torch.Generator().manual_seed(0)
    time = torch.linspace(0, 1, shape[-1])
    inputs = []
    for _ in range(count):
        pitch = 3 + 60 * torch.rand((*shape[:-1], 1), generator=generator)
        tone = torch.sin(2 * torch.pi * pitch * time) * torch.rand((*shape[:-1], 1), generator=generator) * 2
        inputs.append({"sound": tone + 0.3 * torch.randn(shape, generator=generator)})
    return Model(
        {"forward": EntryPoint(module, inputs[0])},
        source=f"zoo:{name}",
        proof_inputs=tuple(inputs),
        proof_source=f"{count} noisy tones",
    )


class _Encoder(nn.Module):
    """The encoder of a speech model as a module of one tensor."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, sound: Tensor) -> Tensor:
        """The last hidden states."""
        states: Tensor = self.encoder(sound)[0]
        return states


def encoder_model(
    kind: str, shape: tuple[int, ...], part: Callable[[Any], nn.Module] | None = None, **options: Any
) -> Callable[[str], Model]:
    """A builder of a speech encoder of transformers; `part` takes it out of the whole model."""

    def build(name: str) -> Model:
        whole = toy(kind, **options)
        return sound_model(name, _Encoder(part(whole) if part else whole).eval(), shape)

    return build


class Keywords(nn.Module):
    """Spectrogram [1, bands, frames] -> log-probabilities of keywords [1, frames / 2, 12], by a recurrent layer."""

    def __init__(self, cell: str, bands: int = 40, width: int = 32) -> None:
        super().__init__()
        self.front = nn.Conv1d(bands, width, 5, stride=2, padding=2)
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.cell = kind(width, width, num_layers=2, batch_first=True, bidirectional=cell == "lstm")
        self.head = nn.Linear(width * (2 if cell == "lstm" else 1), 12)

    def forward(self, sound: Tensor) -> Tensor:
        """One row a frame."""
        frames = nn.functional.relu(self.front(sound)).transpose(1, 2)
        states, _ = self.cell(frames)
        return nn.functional.log_softmax(self.head(states), -1)


class _Dilated(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(width, 2 * width, 1),
            nn.PReLU(),
            nn.GroupNorm(1, 2 * width),
            nn.Conv1d(2 * width, 2 * width, 3, padding=dilation, dilation=dilation, groups=2 * width),
            nn.PReLU(),
            nn.GroupNorm(1, 2 * width),
            nn.Conv1d(2 * width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Separator(nn.Module):
    """Waveform [1, 1, samples] -> two sources [1, 2, samples]: learned frames, masks from dilated convolutions.

    After Conv-TasNet (Luo and Mesgarani, arXiv:1809.07454, section II).
    """

    def __init__(self, width: int = 24, kernel: int = 16) -> None:
        super().__init__()
        self.encode = nn.Conv1d(1, width, kernel, stride=kernel // 2)
        self.mask = nn.Sequential(
            nn.GroupNorm(1, width), *(_Dilated(width, 2**i) for i in range(3)), nn.Conv1d(width, 2 * width, 1)
        )
        self.decode = nn.ConvTranspose1d(width, 1, kernel, stride=kernel // 2)

    def forward(self, sound: Tensor) -> Tensor:
        """Each source is decoded from its own masked frames."""
        frames = self.encode(sound)
        masks = self.mask(frames).sigmoid().unflatten(1, (2, -1))
        masked = (masks * frames[:, None]).flatten(0, 1)
        return self.decode(masked).transpose(0, 1)


def own(module: Callable[[], nn.Module], shape: tuple[int, ...]) -> Callable[[str], Model]:
    """A builder of a network written here."""
    return lambda name: sound_model(name, enliven(module()), shape)
