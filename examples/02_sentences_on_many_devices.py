"""Deploy a sentence encoder to phones, a laptop and a single-board computer, with progress while it is built.

pip install 'ferrule[all,demo]' torch==2.13.0
python examples/02_sentences_on_many_devices.py
"""

from __future__ import annotations

import ferrule
from ferrule.jobs import Event

DEVICES = ("pixel-9:litert", "galaxy-s24:executorch", "iphone-15-pro:coreml", "raspberry-pi-5:onnx")


def tell(event: Event) -> None:
    """Called for each step of each build; `done` of `total` counts the sentences proven so far."""
    if event.done == 0:
        print(f"  {event.device}:{event.target} {event.phase}")


def main() -> None:
    results = ferrule.deploy("sample:minilm", devices=DEVICES, recipe="w8a8", out="out/sentences", progress=tell)
    for result in results:
        size = f"{result.size_bytes / 1e6:.1f} MB" if result.size_bytes else result.reason
        print(f"{result.device:<16} {result.status:<8} {size}")
        for note in result.notes:
            print(f"{'':<16} {note}")


if __name__ == "__main__":
    main()
