"""`ferrule`: the group of commands, loaded one at a time, and the translation of errors into exit codes."""

from __future__ import annotations

import os
import signal
import sys
from difflib import get_close_matches
from importlib import import_module

import click

import ferrule
from ferrule.cli.output import (
    EXIT_INTERRUPTED,
    EXIT_NONE,
    EXIT_USAGE,
    close_logs,
    open_logs,
    say_error,
    talk_options,
)
from ferrule.errors import FerruleError, OutputError

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "bench": "Measure the native kernels, or whole models, beside other packages.",
    "build": "Compress a model, or those of a project file, and build one bundle for each device.",
    "cache": "Show the size of the cache of builds, or empty it.",
    "check": "Verify a bundle's files and run its proof again.",
    "completion": "Print the completion script of a shell.",
    "demo": "Build MiniLM for five devices, measure its accuracy, write a report.",
    "devices": "List the device profiles, or show one.",
    "diff": "Compare two bundles, or two build folders target by target.",
    "doctor": "Tell what is installed here, what is missing and what it would give.",
    "explore": "Open a bundle's graph in Model Explorer.",
    "init": "Write a commented project file to start from.",
    "measure": "Measure a bundle on this machine: latency, load time, memory.",
    "report": "Write the HTML report of a build folder.",
    "sensitivity": "Show what each layer of a model costs under a recipe.",
    "targets": "List the targets and whether their toolkits are installed.",
    "techniques": "List the techniques of the catalogue with their options.",
}

USAGE_FAMILIES = ("FER-USE", "FER-DEV", "FER-TGT", "FER-REC-001", "FER-REC-003", "FER-SRC-001", "FER-PRJ")


class _Commands(click.Group):
    """Imports a command's file only when the command is called: `ferrule --help` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"ferrule.cli.{cmd_name}").command
        for each in (command, *(command.commands.values() if isinstance(command, click.Group) else ())):
            known = {option for parameter in each.params for option in parameter.opts}
            each.params += [option for option in talk_options() if not known.intersection(option.opts)]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            close = get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(sorted(COMMANDS))}."
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.command(cls=_Commands, params=list(talk_options()), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ferrule.__version__, prog_name="ferrule")
def cli() -> None:
    """Bind a PyTorch model to a device: compress, convert, prove, measure, pack.

    \b
    ferrule build sample:minilm --device pixel-9:litert --recipe w8a8 -o out
    ferrule check out/minilm-w8a8-pixel-9-litert.ferrule
    ferrule measure out/minilm-w8a8-pixel-9-litert.ferrule

    Exit codes: 0 all went well, 3 some targets, 1 none, 2 usage, 130 interrupted.
    """


def main() -> None:
    """Entry point of the console script."""
    # Before torch is loaded: threads of a team that wait for each other should sleep, not spin, on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _interrupt)  # a build machine's way to say Ctrl-C
    open_logs()
    try:
        code = cli(prog_name="ferrule", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = EXIT_USAGE
    except click.ClickException as error:
        error.show()
        code = EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: workers were stopped, no bundle is half-written", err=True)
        code = EXIT_INTERRUPTED
    except FerruleError as error:
        say_error(error)
        code = EXIT_USAGE if error.code.startswith(USAGE_FAMILIES) else EXIT_NONE
    except BrokenPipeError:
        code = 0
    except OSError as error:
        say_error(_refused_by_system(error))
        code = EXIT_NONE
    finally:
        close_logs()
    sys.exit(code if isinstance(code, int) else 0)


def _refused_by_system(error: OSError) -> OutputError:
    """A full disk, a lost mount: what no command foresaw, in the system's own words."""
    where = f"{error.filename}: " if error.filename else ""
    return OutputError("FER-OUT-001", f"{where}{error.strerror or error}.", "Free space or rights, then try again.")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
