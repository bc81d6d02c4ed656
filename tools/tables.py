"""Write the generated tables of README.md (techniques, targets, devices, the demo's as printed), docs/kernels.md,
docs/models.md and docs/custom_ops.md.

    python tools/tables.py            # techniques, targets, devices, kernels from the code, speeds from docs/results
    python tools/tables.py demo.txt   # and the demo's table, from the saved output of `make demo`

Each table stands between `<!-- NAME -->` and `<!-- /NAME -->`; a test asserts that the file is what this writes.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from ferrule.catalog import TECHNIQUES
from ferrule.converters import ALIASES, TARGETS
from ferrule.device_profiles import load, names

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
KERNELS = ROOT / "docs" / "kernels.md"
MODELS, MODELS_FOUND = ROOT / "docs" / "models.md", ROOT / "docs" / "results" / "models.json"
DECODER_FOUND = ROOT / "docs" / "results" / "decoder.json"
CUSTOM_OPS, CUSTOM_OPS_FOUND = ROOT / "docs" / "custom_ops.md", ROOT / "docs" / "results" / "custom_ops.json"
SPEEDS = ROOT / "docs" / "results" / "kernels.json"
ISAS = ("scalar", "avx2", "avx512", "avx512_bf16", "neon", "dotprod", "i8mm", "sme", "sme_i8")


def read_results(path: Path) -> dict[str, Any]:
    """What a benchmark kept in a file; of one that was interrupted no table is made."""
    found: dict[str, Any] = json.loads(path.read_text())
    if not found.get("complete", True):
        raise SystemExit(f"{path} is not complete: run to its end `{found['command']}`")
    return found


def techniques_table() -> str:
    """A row for each technique."""
    lines = ["| technique | what it does | options (defaults) | carried by |", "|---|---|---|---|"]
    for row in TECHNIQUES.values():
        options = ", ".join(f"`{f.name}={f.default!r}`" for f in fields(row.options_type()))
        page = f"[`{row.name}`](docs/techniques/{row.name}.md)"
        lines.append(f"| {page} | {row.summary} | {options} | {', '.join(row.targets)} |")
    return "\n".join(lines)


def targets_table() -> str:
    """A row for each target."""
    lines = ["| target | file | what it is | install |", "|---|---|---|---|"]
    for row in TARGETS.values():
        aliases = "".join(f" (`{alias}`)" for alias, name in ALIASES.items() if name == row.name)
        lines.append(f"| `{row.name}`{aliases} | `{row.file}` | {row.summary} | `ferrule[{row.extra}]` |")
    return "\n".join(lines)


def devices_table() -> str:
    """A row for each device profile, its default target first."""
    lines = ["| device | title | SoC | RAM, smallest | targets, default first |", "|---|---|---|---|---|"]
    for name in names():
        profile = load(name)
        ordered = profile.running_targets()
        ram = profile.facts["ram_gb"].value
        soc = profile.facts["soc"].value
        lines.append(f"| `{name}` | {profile.title} | {soc} | {ram} GB | {', '.join(ordered)} |")
    return "\n".join(lines)


def kernels_table() -> str:
    """A row for each op of csrc/kernels/table.inc, with the instruction sets that it has a kernel of its own for."""
    rows: dict[str, set[str]] = {}
    table = (ROOT / "csrc" / "kernels" / "table.inc").read_text()
    for op, isa in re.findall(r"^FERRULE_KERNEL\((\w+), (\w+),", table, re.MULTILINE):
        rows.setdefault(op, set()).add(isa)
    lines = [f"| kernel | {' | '.join(ISAS)} |", "|---" * (len(ISAS) + 1) + "|"]
    for op, isas in sorted(rows.items()):
        lines.append(f"| `{op}` | {' | '.join('yes' if isa in isas else '' for isa in ISAS)} |")
    return "\n".join(lines)


def speeds_table() -> str:
    """A row for each case of docs/results/kernels.json: our time, its share of the limit, and the fastest peer."""
    cases: dict[tuple[str, str, str], dict[int, list[dict[str, Any]]]] = {}
    for row in read_results(SPEEDS)["rows"]:
        case = cases.setdefault((row["op"], row["shape"], row["dtype"]), {})
        case.setdefault(row["threads"], []).append(row)
    counts = sorted({count for case in cases.values() for count in case})
    heads = "".join(f" {count} T, us | share | fastest peer |" for count in counts)
    lines = [f"| work | dtype |{heads}", "|---|---|" + "--:|--:|---|" * len(counts)]
    for (op, shape, dtype), case in cases.items():
        cells = "".join(_speed_cells(case[count]) for count in counts)
        lines.append(f"| `{op}` {shape} | {dtype} |{cells}")
    return "\n".join(lines)


def _speed_cells(rows: list[dict[str, Any]]) -> str:
    peers = [row for row in rows if row["peer"] and not row["peer"].startswith("ferrule")]
    nearest = min(peers, key=lambda row: float(row["ratio"]), default=None)
    told = f"{nearest['ratio']:.2f} x {nearest['peer']}" if nearest else ""
    time = rows[0]["ours_us"]
    return f" {time:.{1 if time < 1000 else 0}f} | {rows[0]['roofline_share']:.2f} | {told} |"


def models_table() -> str:
    """A row for each model, shape and dtype of docs/results/models.json: our time, cosine, and each peer's."""
    cases: dict[tuple[str, str, str, int], list[dict[str, Any]]] = {}
    for row in read_results(MODELS_FOUND)["rows"]:
        cases.setdefault((row["model"], row["dtype"], row["shape"], row["threads"]), []).append(row)
    lines = ["| model | dtype | shape | T | ours, ms | cosine | peers: x, cosine |", "|---|---|---|--:|--:|--:|---|"]
    for (model, dtype, shape, threads), rows in cases.items():
        peers = sorted((row for row in rows if row["peer"]), key=lambda row: float(row["ratio"]))
        told = "; ".join(f"{row['peer']} {row['ratio']:.2f}{_cosine(', ', row['peer_cosine'])}" for row in peers)
        ours = f"{rows[0]['ours_us'] / 1e3:.3f} | {_cosine('', rows[0]['cosine'])}"
        lines.append(f"| {model} | {dtype} | {shape} | {threads} | {ours} | {told} |")
    return "\n".join(lines)


def _cosine(before: str, value: float | None) -> str:
    return "" if value is None else f"{before}{value:.4f}"


def footprints_table() -> str:
    """A row for each way to run a model of docs/results/models.json."""
    lines = [
        "| model | dtype | runtime | file, MB | open, ms | first, ms | warm, ms | peak, MB |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in read_results(MODELS_FOUND)["footprints"]:
        way = "**native**" if row["way"] == "ferrule" else row["way"]
        times = f"{row['load_ms']:.0f} | {row['first_ms']:.2f} | {row['warm_ms']:.2f}"
        ends = f"{row['file_mb']:.1f} | {times} | {row['peak_mb']:.0f}"
        lines.append(f"| {row['model']} | {row['dtype']} | {way} | {ends} |")
    return "\n".join(lines)


def decoder_table() -> str:
    """A row for each way to run SmolLM2 of docs/results/decoder.json, and the command that measured it."""
    found = read_results(DECODER_FOUND)
    ways: dict[str, dict[int, dict[str, Any]]] = {}
    for row in found["rows"]:
        ways.setdefault(row["way"], {})[row["threads"]] = row
    counts = sorted({row["threads"] for row in found["rows"]})
    heads = "".join(f" prefill/s, {count} T | decode/s, {count} T |" for count in counts)
    lines = [f"| runtime, recipe | file, MB |{heads} perplexity | cosine | greedy |"]
    lines.append("|---|--:|" + "--:|--:|" * len(counts) + "--:|--:|--:|")
    for way, rows in ways.items():
        first = next(iter(rows.values()))
        size = f"{first['bytes'] / 1e6:.1f}" if first.get("bytes") else ""
        speeds = "".join(_decoder_speed(rows[count]) if count in rows else " | |" for count in counts)
        lines.append(f"| {way} | {size} |{speeds} {_decoder_quality(first)} |")
    told = f"Perplexity of torch in float32: {found['reference_perplexity']:.2f}; number of texts: {found['texts']}."
    return "\n".join([*lines, "", f"{told} Measured by `{found['command']}`."])


def _decoder_speed(row: dict[str, Any]) -> str:
    if "prefill_tokens_s" not in row:
        return " failed | failed |"
    return f" {row['prefill_tokens_s']:.0f} | {row['decode_tokens_s']:.1f} |"


def _decoder_quality(row: dict[str, Any]) -> str:
    if "perplexity" not in row:
        return f"{row['error']} | |"
    return f"{row['perplexity']:.2f} | {row['cosine']:.4f} | {row['greedy']}/{row['greedy_of']}"


def custom_ops_table() -> str:
    """A row for each layer and way to run it of docs/results/custom_ops.json: times and bytes on each runtime."""
    found = read_results(CUSTOM_OPS_FOUND)
    targets = list(dict.fromkeys(row["target"] for row in found["rows"]))
    ways: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for row in found["rows"]:
        ways.setdefault((row["group"], row["way"], row["kernel"]), {})[row["target"]] = row
    lines = ["| layer | way | kernel |" + "".join(f" {target}, ms | bytes |" for target in targets) + " error |"]
    lines.append("|---|---|---|" + "--:|--:|" * len(targets) + "--:|")
    for (group, way, kernel), rows in ways.items():
        cells = [f" {rows[t]['ms']:.3f} | {rows[t]['bytes']:,} |" if t in rows else " | |" for t in targets]
        error = max(row["error"] for row in rows.values())
        lines.append(f"| {group} | {way} | {kernel} |{''.join(cells)} {error:.2g} |")
    told = f"Threads: {found['threads']}; medians of {found['rounds']} rounds. Measured by `{found['command']}`."
    return "\n".join([*lines, "", told])


def fill(text: str, name: str, table: str) -> str:
    """The text with the block `name` replaced."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"there is no block {name!r}")
    return pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text)


def render(text: str) -> str:
    """README with the three tables that follow from the code."""
    for name, table in (
        ("techniques", techniques_table()),
        ("targets", targets_table()),
        ("devices", devices_table()),
    ):
        text = fill(text, name, table)
    return text


def render_kernels(text: str) -> str:
    """docs/kernels.md with its tables of kernels and of speeds."""
    return fill(fill(text, "kernels", kernels_table()), "speeds", speeds_table())


def render_models(text: str) -> str:
    """docs/models.md with its three tables."""
    for name, table in (("models", models_table()), ("footprints", footprints_table()), ("decoder", decoder_table())):
        text = fill(text, name, table)
    return text


def render_custom_ops(text: str) -> str:
    """docs/custom_ops.md with its table of speeds."""
    return fill(text, "speeds", custom_ops_table())


if __name__ == "__main__":
    CUSTOM_OPS.write_text(render_custom_ops(CUSTOM_OPS.read_text()))
    MODELS.write_text(render_models(MODELS.read_text()))
    KERNELS.write_text(render_kernels(KERNELS.read_text()))
    content = render(README.read_text())
    if len(sys.argv) > 1:
        printed = Path(sys.argv[1]).read_text().rstrip()
        content = fill(content, "demo", f"```\n{printed}\n```")
    README.write_text(content)
