"""`ferrule completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the completion script of SHELL.

    \b
    eval "$(ferrule completion bash)"        # in ~/.bashrc
    """
    from ferrule.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "ferrule", "_FERRULE_COMPLETE").source())
    return 0
