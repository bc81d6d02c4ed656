"""Bundle: files, manifest and hashes in one directory (or .zip); the same input gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import ferrule
from ferrule.disk import check_room, copy_file, file_facts, output_errors, remove_tree, staging, swap
from ferrule.errors import BundleError, FerruleError, OutputError, SourceError
from ferrule.program import Parity, Program, Signature
from ferrule.proof import Proof, load_proof, prove, save_proof

__all__ = ["SCHEMA", "Bundle", "Check", "check", "check_assets", "write_bundle", "zip_bundle"]

SCHEMA = 1
MOST_ENTRIES, MOST_BYTES = 10_000, 8 << 30  # of a .zip, against bombs
MOST_RATIO, FREE_BYTES = 100, 64 << 20  # unpacked to packed, asked only of archives that unpack to more than this
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its manifest, read but not yet verified (see `verify`)."""

    root: Path
    manifest: Mapping[str, Any]

    @staticmethod
    def open(path: str | Path) -> Bundle:
        """Open a directory or a .zip, which is unpacked into a folder that lives as long as the Bundle.

        Raises BundleError FER-BUN-001 (absent), -002 (manifest), -004 (a path outside), -005 (archive).
        """
        path = Path(path)
        if not (path.is_file() and path.suffix == ".zip"):
            return _open_folder(path, path)
        folder = Path(tempfile.mkdtemp(prefix="ferrule-"))
        try:
            _unzip(path, folder)
            bundle = _open_folder(folder, path)
        except BaseException:
            remove_tree(folder)
            raise
        weakref.finalize(bundle, remove_tree, folder)
        return bundle

    @property
    def target(self) -> str:
        """Name of the target."""
        return str(self.manifest["target"])

    @property
    def main(self) -> str:
        """The file or package that an engine opens, relative to the root."""
        return f"program/{self.manifest['program']['main']}"

    @property
    def program(self) -> Program:
        """The Program as the manifest tells it, its delegation table included."""
        delegation = json.loads((self.root / "delegation.json").read_text())
        return Program.from_json({**self.manifest["program"], "delegation": delegation}, self.root / "program")

    @property
    def entry_points(self) -> dict[str, Signature]:
        """Signatures by name."""
        return {n: Signature.from_json(s) for n, s in self.manifest["program"]["entry_points"].items()}

    @property
    def proof(self) -> Proof:
        """Inputs and answers that travel with the bundle."""
        return load_proof(self.root / "proof.safetensors")

    def problems(self) -> list[str]:
        """What is wrong with the files, against the manifest; empty when all is well."""
        listed: Mapping[str, Any] = self.manifest["files"]
        found = {_relative(p, self.root) for p in self.root.rglob("*") if p.is_symlink() or not p.is_dir()}
        problems = [f"{name} is missing" for name in sorted(set(listed) - found)]
        problems += [f"{name} is not in the manifest" for name in sorted(found - set(listed) - {"manifest.json"})]
        for name in sorted(found & set(listed)):
            path = self.root / name
            if path.is_symlink():
                problems.append(f"{name} is a symbolic link")
            elif not path.is_file():
                problems.append(f"{name} is no regular file")
            elif file_facts(path)["sha256"] != listed[name]["sha256"]:
                problems.append(f"{name} was changed: its sha256 differs from the manifest's")
        return problems

    def verify(self) -> None:
        """Raise BundleError FER-BUN-003 listing every problem of the files."""
        problems = self.problems()
        if problems:
            raise BundleError(
                "FER-BUN-003", f"{self.root.name} is damaged: {'; '.join(problems)}.", "Build or copy it again."
            )


@dataclass(frozen=True)
class Check:
    """Outcome of `check`: parity measured now on the bundle's own proof inputs, and problems in words."""

    ok: bool
    parity: Parity | None
    problems: tuple[str, ...]


def check(path: str | Path) -> Check:
    """Verify hashes, then run the artefact on its proof inputs and hold it to the recipe's bound."""
    from ferrule.runtime.session import open_program

    try:
        bundle = Bundle.open(path)
        problems = bundle.problems()
        if problems:
            return Check(False, None, tuple(problems))
        with open_program(bundle.root / bundle.main, bundle.target, bundle.entry_points) as session:
            parity = prove(session, bundle.proof)
    except FerruleError as error:
        return Check(False, None, (str(error),))
    bound = float(bundle.manifest["recipe"]["min_cosine"])
    low = f"cosine {parity.cosine:.4f} is under the recipe's bound {bound:.4f}"
    return Check(parity.cosine >= bound, parity, () if parity.cosine >= bound else (low,))


def write_bundle(
    program: Program,
    out: Path,
    facts: Mapping[str, Any],
    assets: Mapping[str, Path],
    proof: Proof | Path,
    known: Mapping[Path, Mapping[str, Any]] | None = None,
) -> Bundle:
    """Write a bundle at `out` (beside it first, then moved there) from a lowered program whose root holds its files.

    facts: what the manifest tells beyond the program (`model`, `recipe`, `device`). assets: name -> file to copy.
    proof: cut to what travels, or a file with that part. known: `sha256` and `bytes` of files, to spare reading them.
    The very same bundle that stands there already stays. Raises OutputError FER-OUT-001 when the folder cannot be
    written, FER-OUT-002 when something else than a bundle stands there, FER-OUT-003 when the disk is full, SourceError
    FER-SRC-002 when an asset is absent.
    """
    assert program.root is not None
    out, known = Path(out), known or {}
    check_assets(assets)
    _check_replaceable(out)
    files = {f"program/{_relative(p, program.root)}": p for p in program.root.rglob("*") if p.is_file()}
    files |= {f"assets/{name}": Path(source) for name, source in assets.items()}
    with output_errors(out, sum(p.stat().st_size for p in files.values())), staging(out.parent) as stage:
        files["proof.safetensors"] = proof if isinstance(proof, Path) else _save_head(proof, stage)
        described = program.to_json()
        files["delegation.json"] = _write_json(stage / "delegation.json", described.pop("delegation"))
        manifest = {
            "schema": SCHEMA,
            "ferrule": ferrule.__version__,
            **facts,
            "target": program.target,
            "program": described,
            "files": {name: dict(known.get(path) or file_facts(path)) for name, path in sorted(files.items())},
        }
        manifest["size_bytes"] = sum(f["bytes"] for name, f in manifest["files"].items() if name.startswith("program/"))
        manifest["digest"] = _digest(manifest)
        made = _write_json(stage / "manifest.json", manifest)
        if not _stands(out, made):
            check_room(out.parent, {name: row["bytes"] for name, row in manifest["files"].items()})
            _copy_files({name: path for name, path in files.items() if path.parent != stage}, stage)
            swap(stage, out)
    return Bundle.open(out)


def _save_head(proof: Proof, stage: Path) -> Path:
    path = stage / "proof.safetensors"
    save_proof(proof.head(), path)
    path.chmod(0o644)
    return path


def _stands(out: Path, manifest: Path) -> bool:
    """Whether a whole bundle with this very manifest is at `out`."""
    try:
        same = (out / "manifest.json").read_bytes() == manifest.read_bytes()
        return same and not Bundle.open(out).problems()
    except (OSError, FerruleError):
        return False


def _copy_files(files: Mapping[str, Path], folder: Path) -> None:
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy_file(source, folder / name)


def zip_bundle(bundle: Bundle, path: Path) -> Path:
    """The bundle as a .zip with normalised times, order and rights; raises OutputError FER-OUT-001, FER-OUT-003."""
    path = Path(path)
    with output_errors(path, sum(f["bytes"] for f in bundle.manifest["files"].values())), staging(path.parent) as stage:
        with zipfile.ZipFile(stage / "bundle.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name in sorted([*bundle.manifest["files"], "manifest.json"]):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                entry.create_system = 3
                archive.writestr(entry, (bundle.root / name).read_bytes())
        os.replace(stage / "bundle.zip", path)
    return path


def _check_replaceable(out: Path) -> None:
    """A bundle or an empty folder may be replaced; anything else there is the user's."""
    if out.is_dir() and ((out / "manifest.json").is_file() or not any(out.iterdir())):
        return
    if out.exists() or out.is_symlink():
        raise OutputError("FER-OUT-002", f"{out} exists and is not a bundle.", "Give another name, or remove it.")


def check_assets(assets: Mapping[str, Path]) -> None:
    """Refuse assets that are not there or have no plain file name; raises SourceError FER-SRC-002."""
    for name, source in assets.items():
        if not _is_inside(name) or "/" in name:
            raise SourceError("FER-SRC-002", f"Asset {name!r} is no plain file name.", "Name assets without folders.")
        if not Path(source).is_file():
            raise SourceError("FER-SRC-002", f"Asset {name!r} of the model does not exist: {source}.")


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _digest(manifest: Mapping[str, Any]) -> str:
    body = {k: v for k, v in manifest.items() if k != "digest"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _write_json(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _open_folder(folder: Path, given: Path) -> Bundle:
    if not (folder / "manifest.json").is_file():
        raise BundleError(
            "FER-BUN-001",
            f"{given} is not a bundle: it holds no manifest.json." if given.exists() else f"{given} does not exist.",
            "Give a folder or a .zip that `ferrule build` wrote.",
        )
    return Bundle(folder, _read_manifest(folder / "manifest.json"))


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError("FER-BUN-002", f"{path} is not readable JSON: {error}.") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise BundleError(
            "FER-BUN-002", f"{path} is of schema {found!r}; this version of Ferrule reads schema {SCHEMA}."
        )
    if manifest.get("digest") != _digest(manifest):
        raise BundleError("FER-BUN-002", f"{path} was changed: its digest does not fit its content.")
    _check_fields(path, manifest)
    for name in [*manifest["files"], manifest["program"]["main"]]:
        if not _is_inside(name):
            raise BundleError("FER-BUN-004", f"{path} names a file outside the bundle: {name!r}.")
    return manifest


def _check_fields(path: Path, manifest: Mapping[str, Any]) -> None:
    """Look at what is read later; the digest only shows that whoever wrote the manifest wrote all of it."""
    from ferrule.runtime.session import ENGINES

    try:
        files = all(isinstance(row["sha256"], str) for row in manifest["files"].values())
        main = f"program/{manifest['program']['main']}"
        held = any(name == main or name.startswith(f"{main}/") for name in manifest["files"])
        needed = {"delegation.json", "proof.safetensors"} <= set(manifest["files"])
        for signature in manifest["program"]["entry_points"].values():
            Signature.from_json(signature)
        bound = isinstance(manifest["recipe"]["min_cosine"], int | float)
        known = manifest["target"] in ENGINES and isinstance(manifest["program"]["main"], str)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BundleError(
            "FER-BUN-002", f"{path} lacks a field or holds one of the wrong form: {type(error).__name__}: {error}."
        ) from error
    inside = _is_inside(manifest["program"]["main"])
    if not (files and needed and bound and known and (held or not inside)):
        raise BundleError("FER-BUN-002", f"{path} does not describe a bundle: files, target or recipe are amiss.")


def _is_inside(name: str) -> bool:
    pure = PurePosixPath(name)
    return bool(name) and not pure.is_absolute() and ".." not in pure.parts and "\\" not in name


def _unzip(path: Path, folder: Path) -> None:
    """Unpack an archive after looking at every entry: no escape, no link, no bomb."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            bad = [e.filename for e in entries if not _is_inside(e.filename) or (e.external_attr >> 28) == 0xA]
            size = sum(e.file_size for e in entries)
            folded = {e.filename.casefold() for e in entries}
            packed = path.stat().st_size
            bomb = size > MOST_BYTES or size > max(FREE_BYTES, MOST_RATIO * packed)
            if bad or bomb or len(entries) > MOST_ENTRIES or len(folded) < len(entries):
                sizes = f"{len(entries)} entries, {packed} bytes that unpack to {size}, or names that clash"
                what = f"entries {bad[:3]} leave the folder or are links" if bad else sizes
                raise BundleError("FER-BUN-005", f"{path} is not a bundle's archive: {what}.")
            archive.extractall(folder)
    # RuntimeError: an encrypted entry.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise BundleError("FER-BUN-005", f"{path} cannot be unpacked: {error}.") from error
