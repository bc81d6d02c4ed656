"""`ferrule completion`, and what a shell may offer for devices, recipes and models."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

__all__ = ["command", "complete_destination", "complete_device", "complete_model", "complete_recipe", "complete_target"]

SOURCE_PREFIXES = ("sample:", "hf:", "timm:")

# Ours instead of click's: bash splits words at ':', which stands in `pixel-9:litert` and `sample:minilm`, and replaces
# only what follows the last one.
BASH = """\
_ferrule_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" completion kind value current="" prefix="" words count
    read -ra words <<< "$line"
    count=${#words[@]}
    if [[ $line == *[[:space:]] ]]; then
        : # a new word begins
    else
        count=$((count - 1))
        current="${words[count]}"
    fi
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        prefix="${current%"${current##*:}"}"
    fi
    COMPREPLY=()
    while IFS=',' read -r kind value; do
        if [[ $kind == dir ]]; then
            compopt -o dirnames
        elif [[ $kind == file ]]; then
            compopt -o default
        else
            [[ $value == *[:/] ]] && compopt -o nospace
            COMPREPLY+=("${value#"$prefix"}")
        fi
    done < <(COMP_WORDS="$line" COMP_CWORD=$count _FERRULE_COMPLETE=bash_complete "$1")
}
complete -o nosort -F _ferrule_completion ferrule
"""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the completion script of SHELL: commands, options, devices, targets, recipes and models.

    \b
    eval "$(ferrule completion bash)"                                  # in ~/.bashrc
    eval "$(ferrule completion zsh)"                                   # in ~/.zshrc, after compinit
    ferrule completion fish > ~/.config/fish/completions/ferrule.fish
    """
    from ferrule.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(BASH if shell == "bash" else kind(cli, {}, "ferrule", "_FERRULE_COMPLETE").source())
    return 0


def complete_device(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of devices."""
    from ferrule.device_profiles import names

    return _items(names(), begun)


def complete_destination(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of devices, and after `DEVICE:` the targets that it takes."""
    from ferrule.device_profiles import load, names

    device, colon, _ = begun.partition(":")
    if not colon:
        return _items(names(), begun)
    return _items([f"{device}:{t}" for t in load(device).running_targets()] if device in names() else [], begun)


def complete_target(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of targets."""
    from ferrule.converters import TARGETS

    return _items(TARGETS, begun)


def complete_recipe(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Presets, techniques (after '-' those not named yet), and .json files."""
    from ferrule.catalog import TECHNIQUES
    from ferrule.errors import FerruleError
    from ferrule.recipe import load_recipe, preset_names

    known = preset_names()
    head, dash, _ = begun.rpartition("-")
    if dash:
        with suppress(FerruleError):
            taken = {step.technique for step in load_recipe(head).steps}
            known += [f"{head}-{name}" for row in TECHNIQUES.values() if row.name not in taken for name in row.names()]
    return _items([*known, *_paths(begun, (".json",))], begun)


def complete_model(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Samples, directories after `hf:`, .py files and then their functions, .pt2 files."""
    if begun.startswith("sample:"):
        from ferrule.sources.sample import SAMPLES

        return _items([f"sample:{name}" for name in SAMPLES], begun)
    if begun.startswith("hf:"):
        return _items([f"hf:{path}" for path in _paths(begun.removeprefix("hf:"), ())], begun)
    path, colon, _ = begun.rpartition(":")
    if colon and path.endswith(".py"):
        return _items([f"{path}:{name}" for name in _functions(Path(path))], begun)
    files = [f"{p}:" if p.endswith(".py") else p for p in _paths(begun, (".py", ".pt2"))]
    return _items([*SOURCE_PREFIXES, *files], begun)


def _items(values: Iterable[str], begun: str) -> list[CompletionItem]:
    return [CompletionItem(value) for value in dict.fromkeys(values) if value.startswith(begun)]


def _paths(begun: str, suffixes: tuple[str, ...]) -> list[str]:
    """Directories, with a '/', and files with one of the suffixes, that begin as `begun` does."""
    head, slash, _ = begun.rpartition("/")
    folder = Path(f"{head}/" if slash else ".").expanduser()
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    found = []
    for entry in entries:
        if entry.name.startswith(".") or not (entry.is_dir() or entry.suffix in suffixes):
            continue
        found.append(f"{head}{slash}{entry.name}{'/' if entry.is_dir() else ''}")
    return found


def _functions(path: Path) -> list[str]:
    """Functions at the top of a Python file that can be called without arguments; the file is not run."""
    try:
        tree = ast.parse(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and len(node.args.args) == len(node.args.defaults)
        and not node.args.posonlyargs
        and not node.name.startswith("_")
    ]
