"""An .mlpackage as files: several functions joined to one package, and bytes that depend on its content only."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from ferrule.converters.coreml.toolkit import hide_progress

__all__ = ["fix_package", "join_functions"]

_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122's, for names that are URLs


def join_functions(functions: Mapping[str, tuple[Path, str]], package: Path) -> None:
    """Several functions become one package that stores equal weights once."""
    import coremltools as ct

    (first, (alone, source)), *rest = functions.items()
    if not rest and source == "main":
        shutil.copytree(alone, package)
        return
    parts = ct.utils.MultiFunctionDescriptor()
    for name, (path, source) in functions.items():
        parts.add_function(str(path), src_function_name=source, target_function_name=name)
    parts.default_function_name = first
    with hide_progress():
        ct.utils.save_multifunction(parts, str(package))


def fix_package(package: Path) -> None:
    """Make a package depend on its content only: fixed identifiers, no date, ordered maps, no debug file."""
    from coremltools.proto import Model_pb2

    (package / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    manifest = json.loads((package / "Manifest.json").read_text())
    items = manifest["itemInfoEntries"]
    names = {old: str(uuid.uuid5(_NAMESPACE, item["path"])) for old, item in items.items()}
    manifest["itemInfoEntries"] = {names[old]: item for old, item in items.items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    (package / "Manifest.json").write_text(json.dumps(manifest, indent=4, sort_keys=True))
    file = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec = Model_pb2.Model.FromString(file.read_bytes())
    spec.description.metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    file.write_bytes(spec.SerializeToString(deterministic=True))
