"""Every error that Ferrule raises to a user.

    FerruleError                a stable code, what was found, what is allowed, what to do
    ├── UsageError              FER-USE   the command or call is malformed
    ├── ProjectError            FER-PRJ   the project file is absent, malformed or names something unknown
    ├── SourceError             FER-SRC   the model cannot be found or read
    ├── ModelError              FER-MOD   the model's weights or outputs are unusable
    ├── CaptureError            FER-CAP   torch.export refuses the model
    ├── InputError              FER-INP   inputs or calibration data of the wrong name, shape, dtype
    ├── RecipeError             FER-REC   unknown technique or preset, bad options, nothing to act on
    ├── DeviceError             FER-DEV   unknown device, or one that cannot take the target
    ├── TargetError             FER-TGT   unknown target, or its toolkit is not installed
    ├── LoweringError           FER-LOW, FER-MIL   a target cannot hold an op or a codec
    ├── ParityError             FER-PAR   the artefact does not compute what the model computes
    ├── BundleError             FER-BUN   a bundle is damaged, incomplete or of another schema
    ├── ProgramError            FER-NAT   a native program, or an input of one, is refused by its runtime
    └── OutputError             FER-OUT   the output folder cannot be written

`docs/errors.md` has an entry for each code. The extension (`ferrule.runtime._C`) knows none of these classes: its
FER-KER codes begin the text of a TypeError or ValueError, its FER-NAT codes that of its own ProgramError.
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "CaptureError",
    "DeviceError",
    "FerruleError",
    "InputError",
    "LoweringError",
    "ModelError",
    "OutputError",
    "ParityError",
    "ProgramError",
    "ProjectError",
    "RecipeError",
    "SourceError",
    "TargetError",
    "UsageError",
    "by_code",
]


class FerruleError(Exception):
    """The root: `code` is stable, `message` says found and allowed, `hint` what to do next."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f" {self.hint}" if self.hint else "")


class UsageError(FerruleError):
    """FER-USE: the command line or the call is malformed."""


class ProjectError(FerruleError):
    """FER-PRJ: the project file is absent, malformed, or names something unknown."""


class SourceError(FerruleError):
    """FER-SRC: the model named by a spec cannot be found or read."""


class ModelError(FerruleError):
    """FER-MOD: the model's weights or outputs are unusable."""


class CaptureError(FerruleError):
    """FER-CAP: torch.export cannot capture the model."""


class InputError(FerruleError):
    """FER-INP: inputs or calibration data of the wrong name, shape or dtype."""


class RecipeError(FerruleError):
    """FER-REC: a recipe names something unknown, has bad options, or acts on nothing."""


class DeviceError(FerruleError):
    """FER-DEV: unknown device, or one that cannot take the target."""


class TargetError(FerruleError):
    """FER-TGT: unknown target, or its toolkit is not installed."""


class LoweringError(FerruleError):
    """FER-LOW, FER-MIL: a target cannot hold an op or a codec."""


class ParityError(FerruleError):
    """FER-PAR: the artefact does not compute what the model computes."""


class BundleError(FerruleError):
    """FER-BUN: a bundle is damaged, incomplete or of another schema."""


class ProgramError(FerruleError):
    """FER-NAT: a native program, or an input of one, is refused by its runtime."""


class OutputError(FerruleError):
    """FER-OUT: the output folder cannot be written."""


_FAMILIES: dict[str, type[FerruleError]] = {
    "FER-USE": UsageError,
    "FER-PRJ": ProjectError,
    "FER-SRC": SourceError,
    "FER-MOD": ModelError,
    "FER-CAP": CaptureError,
    "FER-INP": InputError,
    "FER-REC": RecipeError,
    "FER-DEV": DeviceError,
    "FER-TGT": TargetError,
    "FER-LOW": LoweringError,
    "FER-MIL": LoweringError,
    "FER-PAR": ParityError,
    "FER-BUN": BundleError,
    "FER-NAT": ProgramError,
    "FER-OUT": OutputError,
}


def by_code(code: str, message: str, hint: str = "") -> FerruleError:
    """Rebuild an error that crossed a process boundary as text."""
    return _FAMILIES.get(code[:7], FerruleError)(code, message, hint)
