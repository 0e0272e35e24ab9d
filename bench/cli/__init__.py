"""The command line: ``bench COMMAND``. One file a command, loaded when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

import click

from bench.errors import BenchError

COMMANDS = {
    "run": "train, predict, time, score and store methods on data sets",
    "list": "what there is: methods, datasets, metrics, runs",
    "show": "everything about a method, a data set, a metric or a run",
    "compare": "two or more runs, with the interval of their difference",
    "time": "time methods side by side on this machine",
    "export": "boards as CSV, LaTeX, Markdown, JSON, BibTeX or web pages",
    "demo-db": "a database of invented methods, to look at the board",
    "score": "score any prediction files, nothing stored",
    "submit": "put predictions made elsewhere on the board",
    "rescore": "score stored predictions again with today's metrics",
    "data": "data sets on disk: list, check, prepare, download, synth, show, export",
    "new": "begin a method of your own",
    "check": "whether a method keeps the contract, on generated data",
    "leaderboard": "the board, in the browser",
    "doctor": "what is installed, what is missing and how to mend it",
}
"""Command -> its line in ``bench --help``; ``bench.cli.<command>`` holds it."""


class _Commands(click.Group):
    """Imports a command only when it is called: listing must not wait for pandas."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"bench.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from bench.errors import UnknownNameError

            raise UnknownNameError("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.version_option(package_name="cellseg-bench", prog_name="bench")
def cli(debug: bool, quiet: bool) -> None:
    """Benchmark instance segmentation of cells and nuclei: same data, same metrics, same clock."""
    from bench.progress import set_quiet

    set_quiet(quiet)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, or the ``exit_code`` of the error; 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]  # wherever the user put it
    try:
        code = cli.main(args=arguments, prog_name="bench", standalone_mode=False)
    except BenchError as error:
        code = _report(error, debug)
    except click.exceptions.Abort:
        code = 130
        _line("interrupted; the same command goes on from here")
    except KeyboardInterrupt:
        code = 130
        _line("interrupted; the same command goes on from here")
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        hint = f" (see {where.command_path} --help)" if where is not None else ""
        message = error.format_message().rstrip(".")
        _line(f"error: {message[:1].lower()}{message[1:]}{hint}")
        code = error.exit_code
    except BrokenPipeError:  # `bench list methods | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if debug:
            raise
        _line(f"error: this is a bug: {type(error).__name__}: {error} (see the traceback with --debug)")
        code = 70
    sys.exit(code or 0)


def _report(error: BenchError, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    _line(f"error: {error}")
    return error.exit_code


def _line(text: str) -> None:
    sys.stderr.write(" ".join(text.splitlines()) + "\n")
