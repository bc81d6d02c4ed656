"""Instructions of every ARM kernel as executed by QEMU, and cycles of the inner loops as LLVM models three cores.

    python benchmarks/arm.py BUILD_FOLDER [--update]      # `make bench-arm` builds the folder first

Nothing of this is measured on ARM hardware. The instructions are those of one call of each benchmark of
csrc/bench, exact and repeatable; a kernel that needs more than 2 % more of them than docs/results/arm.json has fails
the command, and `--update` (`make bench-arm UPDATE=1`) writes the file anew. The cycles are those of llvm-mca for
each innermost loop of products in the object files that ship, with every load from L1; the peak beside them is that of
independent products in the same model. For cortex-x2 LLVM models two vector pipes where the core has four, so
neoverse-v2, with four, stands beside it; all Apple cores share one old model.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "arm.json"
OBJDUMP = "aarch64-linux-gnu-objdump"
QEMU = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", "max"]
ISAS = ("neon", "dotprod", "i8mm")
GROWTH = 0.02
ITERATIONS = 200

# Multiply-adds of one instruction over 128 bits, by its name and the suffix of its destination.
PRODUCTS = {
    ("sdot", "4s"): 16,
    ("usdot", "4s"): 16,
    ("udot", "4s"): 16,
    ("smmla", "4s"): 32,
    ("usmmla", "4s"): 32,
    ("ummla", "4s"): 32,
    ("fmla", "4s"): 4,
    ("smlal", "8h"): 8,
    ("smlal2", "8h"): 8,
    ("smull", "8h"): 8,
    ("smull2", "8h"): 8,
}
# Cores whose model has the instruction; apple-m1 lacks i8mm.
CORES = {
    "sdot": ("neoverse-n1", "cortex-x2", "neoverse-v2", "apple-m1"),
    "smmla": ("cortex-x2", "neoverse-v2", "apple-m2"),
    "fmla": ("neoverse-n1", "cortex-x2", "neoverse-v2", "apple-m1"),
    "smull": ("neoverse-n1", "cortex-x2", "neoverse-v2", "apple-m1"),
}
# The best tile of each op of these must reach this share of the model's peak.
BARS = {("sdot", "neoverse-n1"): 0.7, ("smmla", "cortex-x2"): 0.7}
BARRED_OPS = ("gemm_i8", "gemm_i4", "gemm_lut4", "gemm_lut2")
# Loops with fewer products, or where they are a smaller part of the instructions, do something else for the most part.
LEAST_PRODUCTS = 8
LEAST_PART = 0.25


@dataclass(frozen=True)
class Loop:
    """An innermost loop of a kernel, as GNU's disassembler prints it."""

    op: str
    isa: str
    function: str
    kind: str
    multiply_adds: int
    lines: tuple[str, ...]


def run(command: list[str], text: str | None = None) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def count_instructions(build: Path) -> dict[str, int]:
    """Instructions of each benchmark: "op isa shape" to count."""
    counts: dict[str, int] = {}
    output = build / "count.txt"
    for isa in ISAS:
        plugin = ["-plugin", f"{build / 'count.so'},out={output}"]
        printed = run([*QEMU, *plugin, str(build / "ferrule_bench"), "--once", "1", "--isa", isa])
        rows = [" ".join(line.split()) for line in printed.splitlines()]
        values = [int(line) for line in output.read_text().split()]
        if len(rows) != len(values) or len(set(rows)) != len(rows):
            sys.exit(f"{len(values)} counts for {len(rows)} benchmarks of {isa}, which need different names")
        counts.update({row: value for row, value in zip(rows, values, strict=True) if not row.startswith("peak ")})
    return counts


def product_of(line: str) -> tuple[str, int] | None:
    """Kind and multiply-adds of a line, where it is a product."""
    match = re.match(r"(\w+)\s+v\d+\.(\w+)", line)
    amount = PRODUCTS.get((match[1], match[2])) if match else None
    if not match or amount is None:
        return None
    kind = {16: "sdot", 32: "smmla", 4: "fmla", 8: "smull"}[amount]
    return kind, amount


def read_functions(path: Path) -> dict[str, list[tuple[int, str]]]:
    """Functions of an object file: name to (address, instruction)."""
    functions: dict[str, list[tuple[int, str]]] = {}
    current: list[tuple[int, str]] = []
    for line in run([OBJDUMP, "-d", "-C", "--no-show-raw-insn", str(path)]).splitlines():
        if header := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            name = header[1].replace("(anonymous namespace)::", "")
            current = functions.setdefault(re.sub(r"^void |\(.*\)( const)?(?= |$)| \[clone.*", "", name), [])
        elif instruction := re.match(r"\s*([0-9a-f]+):\t(.+)$", line):
            text = re.sub(r"\s*//.*", "", instruction[2]).strip()
            current.append((int(instruction[1], 16), text))
    return functions


def find_loops(code: list[tuple[int, str]]) -> list[list[str]]:
    """Innermost loops: what lies between a branch backwards and its target, no other such branch inside."""
    spans = []
    for address, text in code:
        branch = re.match(r"(b|b\.\w+|cbn?z|tbn?z)\s+(?:.*, )?([0-9a-f]+) <", text)
        if branch and code[0][0] <= int(branch[2], 16) <= address:
            spans.append((int(branch[2], 16), address))
    inner = [s for s in spans if not any(t != s and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
    return [[text for address, text in code if first <= address <= last] for first, last in sorted(set(inner))]


def product_loops(build: Path) -> list[Loop]:
    """Loops of the ARM kernels that multiply and add."""
    loops = []
    for isa in ISAS:
        folder = build / "CMakeFiles" / f"ferrule_{isa}.dir" / "csrc" / "kernels"
        for path in sorted(folder.glob(f"*/{isa}.cpp.o")):
            if path.parent.name == "peak":
                continue
            for function, code in read_functions(path).items():
                for lines in find_loops(code):
                    found = [p for p in map(product_of, lines) if p]
                    if len(found) < max(LEAST_PRODUCTS, LEAST_PART * len(lines)):
                        continue
                    kind = max({k for k, _ in found}, key=lambda k: sum(a for name, a in found if name == k))
                    amount = sum(a for _, a in found)
                    loops.append(Loop(path.parent.name, isa, function, kind, amount, tuple(lines)))
    return loops


def model_cycles(lines: list[str], core: str) -> float:
    """Cycles of one round of a loop in steady state."""
    # Addresses, of branches for the most part, mean nothing outside their file.
    source = "target:\n" + "".join(re.sub(r"\b[0-9a-f]+ <.*", "target", line) + "\n" for line in lines)
    command = ["llvm-mca-19", "-mtriple=aarch64", f"-mcpu={core}", "-mattr=+dotprod,+i8mm"]
    printed = run([*command, f"-iterations={ITERATIONS}"], source)
    match = re.search(r"Total Cycles:\s+(\d+)", printed)
    if not match:
        sys.exit(f"llvm-mca printed no cycles for {core}")
    return int(match[1]) / ITERATIONS


def model_peak(kind: str, core: str) -> float:
    """Multiply-adds a cycle of independent products."""
    shapes = {
        "sdot": "sdot v{}.4s, v24.16b, v25.16b",
        "smmla": "smmla v{}.4s, v24.16b, v25.16b",
        "fmla": "fmla v{}.4s, v24.4s, v25.4s",
        "smull": "smlal v{}.8h, v24.8b, v25.8b",
    }
    amount = {"sdot": 16, "smmla": 32, "fmla": 4, "smull": 8}[kind]
    return 24 * amount / model_cycles([shapes[kind].format(i) for i in range(24)], core)


def model_loops(loops: list[Loop]) -> list[dict[str, Any]]:
    """A row for the loop of each function that comes nearest to the peak of the first core."""
    peaks = {(kind, core): model_peak(kind, core) for kind, cores in CORES.items() for core in cores}

    def model(loop: Loop, core: str) -> dict[str, float]:
        cycles = model_cycles(list(loop.lines), core)
        share = loop.multiply_adds / cycles / peaks[loop.kind, core]
        return {"cycles": round(cycles, 2), "share_of_peak": round(share, 3)}

    best: dict[tuple[str, str, str], tuple[float, Loop]] = {}
    for loop in loops:
        share = model(loop, CORES[loop.kind][0])["share_of_peak"]
        key = loop.op, loop.isa, loop.function
        if key not in best or share > best[key][0]:
            best[key] = share, loop
    return [
        {
            "op": loop.op,
            "isa": loop.isa,
            "function": loop.function,
            "product": loop.kind,
            "instructions": len(loop.lines),
            "multiply_adds": loop.multiply_adds,
            "cores": {core: model(loop, core) for core in CORES[loop.kind]},
        }
        for _, loop in best.values()
    ]


def judge_counts(counts: dict[str, int], kept: dict[str, int]) -> list[str]:
    """What is wrong with the counts beside those that were kept."""
    faults = []
    for name, count in counts.items():
        if name not in kept:
            faults.append(f"{name}: {count} instructions, none kept")
        elif count > kept[name] * (1 + GROWTH):
            faults.append(f"{name}: {count} instructions, {kept[name]} kept: {count / kept[name] - 1:+.1%}")
    faults += [f"{name}: kept, but no such benchmark" for name in kept if name not in counts]
    return faults


def judge_loops(rows: list[dict[str, Any]]) -> list[str]:
    """Ops whose best tile misses its bar."""
    faults = []
    for (kind, core), bar in BARS.items():
        best: dict[str, float] = {}
        for row in rows:
            if row["product"] == kind and row["op"] in BARRED_OPS:
                best[row["op"]] = max(best.get(row["op"], 0), row["cores"][core]["share_of_peak"])
        faults += [
            f"{op}: the best {kind} loop reaches {share:.1%} of {core}'s peak, not {bar:.0%}"
            for op, share in best.items()
            if share < bar
        ]
    return faults


def print_loops(rows: list[dict[str, Any]]) -> None:
    """One line a loop: cycles and share of the peak on each core."""
    for row in rows:
        shares = "  ".join(
            f"{core} {value['cycles']:.1f} cycles {value['share_of_peak']:.1%}" for core, value in row["cores"].items()
        )
        print(f"{row['op']:14} {row['isa']:8} {row['function'][:36]:36} {row['multiply_adds']:5} MAC  {shares}")


def main() -> None:
    """Count, model, print, and compare with what is kept or replace it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--update", action="store_true", help="write docs/results/arm.json")
    options = parser.parse_args()
    compiler = run(["aarch64-linux-gnu-g++", "--version"]).splitlines()[0]
    counts = count_instructions(options.build)
    rows = model_loops(product_loops(options.build))
    print_loops(rows)
    faults = judge_loops(rows)
    if options.update:
        result = {
            "command": "make bench-arm UPDATE=1",
            "source": "QEMU's instruction counts and llvm-mca's models; nothing here was measured on ARM hardware",
            "compiler": compiler,
            "instructions": counts,
            "loops": rows,
        }
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    else:
        kept = json.loads(RESULTS.read_text())
        if kept["compiler"] == compiler:
            faults += judge_counts(counts, kept["instructions"])
        else:
            print(f"counts are not compared: those kept are of {kept['compiler']}, this is {compiler}")
    for fault in faults:
        print(f"FAILED {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
