"""What a device is, as facts that say where they come from.

A profile holds nothing but `Fact`s: the value, its unit, the source, how far to trust it and the day it was
written down. Confidence is one of

    measured    read off the device, or from a report of such a reading that the source names
    vendor      stated by the maker of the device, the chip or the runtime
    estimated   from memory, from the press, or worked out from other facts; the source says which
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = [
    "CONFIDENCES",
    "FACTS",
    "FORMATS",
    "ISA_FEATURES",
    "UNITS",
    "Accelerator",
    "CpuCluster",
    "DeviceProfile",
    "Fact",
    "FactSpec",
    "Format",
    "TargetSupport",
    "Value",
    "iter_facts",
]

Value = str | bool | int | float | tuple[str, ...] | tuple[float, ...]

CONFIDENCES = ("measured", "vendor", "estimated")

# Processing units: what an accelerator is, and what a target can reach. "ane" is Apple's Neural Engine.
UNITS = ("cpu", "gpu", "ane", "npu")

ISA_FEATURES = ("neon", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2", "sme", "sme2")

# What a target may be asked to hold. The first nine are weights; the last two say how activations are
# quantized. "channel" has one scale an output channel, "block" one every few inputs, "palette" a table.
FORMATS = (
    "float32",
    "float16",
    "int8-channel",
    "int8-block",
    "int4-channel",
    "int4-block",
    "palette-tensor",
    "palette-group",
    "sparse",
    "activations-int8-static",
    "activations-int8-dynamic",
)


@dataclass(frozen=True)
class FactSpec:
    """What a named fact must hold: `kind` is text, texts, number, numbers or flag."""

    kind: str
    unit: str = ""
    required: bool = True


# The facts of a device as a whole, in the order in which they are written and shown.
FACTS: Mapping[str, FactSpec] = {
    "soc": FactSpec("text"),
    "soc_others": FactSpec("texts", required=False),  # other chips sold under the same name; not described
    "ram_gb": FactSpec("number", "GB"),  # of the smallest variant sold: a build must fit there
    "ram_variants_gb": FactSpec("numbers", "GB"),
    "app_memory_mb": FactSpec("number", "MB"),  # what one app may use on the smallest variant
    "app_memory_entitled_mb": FactSpec("number", "MB", required=False),  # with Apple's increased-memory-limit
    "memory_bandwidth_gbs": FactSpec("number", "GB/s"),
    "os": FactSpec("text"),
    "os_assumed": FactSpec("text"),  # the lowest version that a build may count on
    "os_current": FactSpec("text"),
    "int8_compute": FactSpec("flag", required=False),  # the ANE has the fast int8 by int8 path of A17 Pro and M4
}


@dataclass(frozen=True)
class Fact:
    """One value with its unit ("" for text and flags), source, confidence, ISO date, and a reason if due."""

    value: Value
    unit: str
    source: str
    confidence: str
    date: str
    reason: str = ""

    def text(self) -> str:
        """The value of a text fact."""
        assert isinstance(self.value, str)
        return self.value

    def number(self) -> float:
        """The value of a number fact, in `unit`."""
        assert isinstance(self.value, int | float) and not isinstance(self.value, bool)
        return self.value

    def flag(self) -> bool:
        """The value of a yes-or-no fact."""
        assert isinstance(self.value, bool)
        return self.value

    def texts(self) -> tuple[str, ...]:
        """The value of a fact that is a list of texts."""
        assert isinstance(self.value, tuple)
        return tuple(str(item) for item in self.value)

    def numbers(self) -> tuple[float, ...]:
        """The value of a fact that is a list of numbers, each in `unit`."""
        assert isinstance(self.value, tuple)
        return tuple(float(item) for item in self.value)


@dataclass(frozen=True)
class CpuCluster:
    """Cores of one kind: its name, how many, the highest clock in GHz, features from ISA_FEATURES."""

    core: Fact
    count: Fact
    clock: Fact
    isa: Fact


@dataclass(frozen=True)
class Accelerator:
    """A unit beside the CPU: `kind` from UNITS, `supports` its number formats, `tops` where published."""

    kind: str
    name: Fact
    supports: Fact
    tops: Fact | None = None


@dataclass(frozen=True)
class Format:
    """Whether a target holds a format here, and the lowest OS version for it, if that matters."""

    accepted: Fact
    needs_os: Fact | None = None


@dataclass(frozen=True)
class TargetSupport:
    """One target on one device: does it run (if not, why), which units does it reach, what does it hold.

    `units` maps a name from UNITS to the software that reaches it. A format that is not listed is not judged
    here: whether the file can hold it is for the converter to say.
    """

    runs: Fact
    units: Mapping[str, Fact] = field(default_factory=dict)
    formats: Mapping[str, Format] = field(default_factory=dict)


@dataclass(frozen=True)
class DeviceProfile:
    """A named device; `facts` are keyed by FACTS, `targets` by target name, `cpu` goes from fast to slow.

    The mappings are plain dicts, so that a profile can be sent to a worker process; nobody writes to them.
    """

    name: str
    title: str
    facts: Mapping[str, Fact]
    cpu: tuple[CpuCluster, ...]
    accelerators: tuple[Accelerator, ...]
    default_target: Fact
    targets: Mapping[str, TargetSupport]

    def running_targets(self) -> list[str]:
        """Names of the targets that run there, the default first, then by name."""
        default = self.default_target.text()
        runs = [name for name, support in self.targets.items() if support.runs.flag()]
        return sorted(runs, key=lambda name: (name != default, name))


def iter_facts(profile: DeviceProfile) -> Iterator[tuple[str, Fact]]:
    """Every fact with its dotted path, such as `targets.coreml.units.ane`, in the order of the file."""
    for name, fact in profile.facts.items():
        yield f"facts.{name}", fact
    for i, cluster in enumerate(profile.cpu):
        for part in ("core", "count", "clock", "isa"):
            yield f"cpu[{i}].{part}", getattr(cluster, part)
    for i, unit in enumerate(profile.accelerators):
        yield f"accelerators[{i}].name", unit.name
        yield f"accelerators[{i}].supports", unit.supports
        if unit.tops is not None:
            yield f"accelerators[{i}].tops", unit.tops
    yield "default_target", profile.default_target
    for target, support in profile.targets.items():
        yield from _target_facts(f"targets.{target}", support)


def _target_facts(path: str, support: TargetSupport) -> Iterator[tuple[str, Fact]]:
    yield f"{path}.runs", support.runs
    for unit, fact in support.units.items():
        yield f"{path}.units.{unit}", fact
    for name, fmt in support.formats.items():
        yield f"{path}.formats.{name}.accepted", fmt.accepted
        if fmt.needs_os is not None:
            yield f"{path}.formats.{name}.needs_os", fmt.needs_os
