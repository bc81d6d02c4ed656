"""What is installed on this machine, read from packages' metadata: nothing heavy is imported."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = [
    "EXTRAS",
    "TORCH_PIN",
    "Extra",
    "Package",
    "cpu_features",
    "extras",
    "install_command",
    "machine",
    "troubles",
]

TORCH_PIN = "2.13.0"
"""The torch that the suite runs with; named in each command, so that pip settles it before the toolkits' ranges."""

EXTRAS = {
    "torch": "models from Python, .pt2 and transformers checkpoints; every technique",
    "onnx": "target onnx: ONNX Runtime on phones, laptops and single-board computers",
    "executorch": "target executorch: .pte files with the XNNPACK delegate",
    "coreml": "target coreml: .mlpackage for Apple's systems; with executorch also executorch-coreml",
    "litert": "target litert: .tflite files for Android and others",
    "timm": "models timm:NAME: hundreds of vision architectures",
    "report": "the charts of `ferrule report`",
    "demo": "sample:minilm and `ferrule demo`: real weights and labelled news articles",
    "bench": "the peers of `ferrule bench kernels`: torch, ONNX Runtime, OpenVINO, llama.cpp",
    "explorer": "`ferrule explore`: graphs of litert and onnx artefacts in a browser",
    "all": "all of the above but demo, bench and explorer",
    "dev": "what `make test` and `make lint` need",
}
"""What each extra would give; the packages behind it stand in Ferrule's own metadata."""

FEATURES = frozenset(
    ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16")
    + ("asimd", "asimddp", "asimdhp", "i8mm", "sve", "bf16")
)


@dataclass(frozen=True)
class Package:
    """A distribution that Ferrule can use. wanted: the range that Ferrule asks for, as pip writes it.

    fits: whether the version lies in it; None where it is missing or where that cannot be told.
    """

    name: str
    wanted: str
    version: str | None
    fits: bool | None


@dataclass(frozen=True)
class Extra:
    """An optional part of Ferrule, and the packages that it needs."""

    name: str
    gives: str
    packages: tuple[Package, ...]

    @property
    def installed(self) -> bool:
        """Whether every package is there in a version that fits."""
        return all(p.version is not None and p.fits is not False for p in self.packages)


def extras() -> list[Extra]:
    """Every extra of the installed Ferrule, as its metadata tells; none where it runs without being installed."""
    needed: dict[str, list[Package]] = {}
    for line in _requirements("ferrule"):
        requirement, _, marker = line.partition(";")
        extra = re.search(r"""extra\s*==\s*["']([^"']+)["']""", marker)
        if extra:
            needed.setdefault(extra[1], []).append(_package(requirement))
    return [
        Extra(name, EXTRAS.get(name, ""), tuple(needed[name]))
        for name in [*EXTRAS, *needed.keys() - EXTRAS]
        if name in needed
    ]


def install_command(extra: str) -> str:
    """The exact pip command of an extra, or of several joined by commas."""
    torch = "" if set(extra.split(",")) <= {"report", "demo", "dev"} else f" torch=={TORCH_PIN}"
    return f"pip install 'ferrule[{extra}]'{torch}"


def machine() -> dict[str, Any]:
    """Python, system, processor and memory; memory in GB, disk of the folder for temporary files too."""
    import psutil

    from ferrule.runtime.bench.measure import host

    memory = psutil.virtual_memory()
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpu": host()["cpu"],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "features": cpu_features(),
        "memory_gb": round(memory.total / 1e9, 1),
        "memory_free_gb": round(memory.available / 1e9, 1),
        "temporary": tempfile.gettempdir(),
        "temporary_free_gb": round(shutil.disk_usage(tempfile.gettempdir()).free / 1e9, 1),
    }


def cpu_features() -> list[str]:
    """Instruction set extensions that matter to kernels, as the system names them; empty where it does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        return sorted(FEATURES.intersection(flags.partition(":")[2].split()))
    if sys.platform == "darwin":
        import subprocess

        told = subprocess.run(["sysctl", "hw.optional"], capture_output=True, text=True, check=False).stdout
        return sorted(m[1] for m in re.finditer(r"hw\.optional\.(?:arm\.)?(\S+): 1", told))
    return []


def troubles(cores: int) -> list[tuple[str, str]]:
    """Known trouble found here, as (what, advice)."""
    return [*_foreign_torchvision(), *_unmet(), *_environment(cores), *_space()]


def version_of(name: str) -> str | None:
    """Version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _requirements(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _package(requirement: str) -> Package:
    """`torch<2.14,>=2.13` as a Package."""
    match = re.match(r"\s*([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*\(?([^)]*)\)?", requirement)
    assert match is not None, requirement
    name, wanted = match[1], match[2].strip()
    version = version_of(name)
    return Package(name, wanted, version, None if version is None else _fits(version, wanted))


def _fits(version: str, wanted: str) -> bool | None:
    try:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet
        from packaging.version import InvalidVersion
    except ImportError:
        return None
    try:
        return SpecifierSet(wanted).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return None


def _foreign_torchvision() -> list[tuple[str, str]]:
    """A CPU-only torch beside a torchvision from the registry, which was built for CUDA: its ops cannot be loaded."""
    torch, vision = version_of("torch"), version_of("torchvision")
    if torch is None or vision is None or not torch.endswith("+cpu") or vision.endswith("+cpu"):
        return []
    return [
        (
            f"torchvision {vision} was not built for torch {torch}: its own ops (nms, roi_align) cannot be loaded.",
            "Ferrule does without them, and timm and transformers work; for models that call them, install torch and "
            "torchvision from one index (pip install --index-url).",
        )
    ]


def _unmet() -> list[tuple[str, str]]:
    """Installed toolkits that ask for another numpy, torch or protobuf than is installed, and ranges of our own."""
    found = []
    known = {p.name: p for extra in extras() if extra.name != "dev" for p in extra.packages if p.version}
    for package in known.values():
        if package.fits is False:
            told = f"{package.name} {package.version} is outside of what Ferrule is tested with ({package.wanted})."
            found.append((told, f"pip install '{package.name}{package.wanted}'"))
        for line in _requirements(package.name):
            requirement, _, marker = line.partition(";")
            needed = _package(requirement)
            if needed.name not in ("numpy", "torch", "protobuf") or needed.fits is not False or not _applies(marker):
                continue
            asks = f"{package.name} {package.version} asks for {needed.name}{needed.wanted}"
            told = f"{asks}; {needed.version} is installed."
            found.append((told, f"pip install '{needed.name}{needed.wanted}', or another {package.name}"))
    return found


def _applies(marker: str) -> bool:
    """Whether a requirement's marker holds here, outside of every extra."""
    if not marker.strip():
        return True
    from packaging.markers import Marker

    return Marker(marker.strip()).evaluate({"extra": ""})


def _environment(cores: int) -> list[tuple[str, str]]:
    """Variables that slow everything down or stop it."""
    found = []
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads and not threads.replace(",", "").isdigit():
        found.append((f"OMP_NUM_THREADS={threads!r} is no number.", "Unset it, or set it to a number of threads."))
    elif threads and int(threads.partition(",")[0]) > cores:
        found.append(
            (
                f"OMP_NUM_THREADS={threads} on {cores} cores: threads will wait for each other.",
                f"Unset it, or set it to at most {cores}; workers of a build use one thread each when it is unset.",
            )
        )
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE":
        found.append(
            (
                "OMP_WAIT_POLICY=ACTIVE: waiting threads spin, and two workers on the same cores cost tenfold.",
                "Unset it.",
            )
        )
    if os.environ.get("KMP_DUPLICATE_LIB_OK"):
        found.append(
            ("KMP_DUPLICATE_LIB_OK is set: two OpenMP libraries in one process can give wrong numbers.", "Unset it.")
        )
    return found


def _space() -> list[tuple[str, str]]:
    """Room for the files between the steps of a build, and memory for one lowering."""
    import psutil

    found = []
    folder = tempfile.gettempdir()
    if shutil.disk_usage(folder).free < 2e9:
        found.append((f"{folder} has less than 2 GB free.", "Point TMPDIR to a larger disk."))
    if psutil.virtual_memory().available < 3e9:
        found.append(
            ("Less than 3 GB of memory are free; a lowering of a small model takes 1 to 3.", "Close programs.")
        )
    return found
