"""The command line: ``bench COMMAND``. One file a command, loaded when it is called."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import select
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import click

from bench.errors import BenchError, OutputError

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


class _PipeError(Exception):
    """Carries a BrokenPipeError, its cause, past click, which would end the program with status 1."""


@contextlib.contextmanager
def _past_click() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _PipeError from error


class _Commands(click.Group):
    """Imports a command only when it is called: listing must not wait for pandas."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]  # `list` is a module of this package once it was called

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

    @_past_click()
    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # which prints --help
        return super().make_context(*args, **kwargs)

    @_past_click()
    def invoke(self, ctx: click.Context) -> Any:
        return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


EXIT_CODES = {
    0: "all went well",
    2: "an argument or a name is wrong",
    3: "a file of a data set or of predictions is missing or broken",
    4: "the database cannot be opened",
    5: "a method failed, or broke its contract",
    6: "a package or a device is not here",
    7: "the result cannot be written",
    8: "another process is at work on the same run",
    70: "a bug of this program",
    130: "interrupted",
}
"""Exit code -> its line in ``bench --help``."""

_EPILOG = """\b
Begin with:
  bench list datasets
  bench run -m otsu_watershed -d bbbc039 --dry-run
  bench COMMAND --help

\b
Exit codes:
""" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.option("--debug", is_flag=True, help="Show the traceback of an error; anywhere in the line.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr; --quiet anywhere in the line.")
@click.version_option(package_name="cellseg-bench", prog_name="bench")
def cli(debug: bool, quiet: bool) -> None:
    """Benchmark instance segmentation of cells and nuclei: same data, same metrics, same clock."""
    from bench.progress import set_quiet

    set_quiet(quiet)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, or the ``exit_code`` of the error; 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    quiet = "--quiet" in arguments
    arguments = [a for a in arguments if a not in ("--debug", "--quiet")]  # wherever the user put them
    if quiet:
        arguments.insert(0, "--quiet")
    try:
        code = cli.main(args=arguments, prog_name="bench", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # what fails only now is an error like any other
    except BenchError as error:
        code = _report(error, debug)
    except click.exceptions.Abort:
        code = 130
        _line("interrupted; the same command goes on from here")
    except KeyboardInterrupt:
        code = 130
        _line("interrupted; the same command goes on from here")
    except click.exceptions.NoArgsIsHelpError as error:  # a group without a command: say which there are
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        hint = f" (see {where.command_path} --help)" if where is not None else ""
        message = error.format_message().rstrip(".")
        _line(f"error: {message[:1].lower()}{message[1:]}{hint}")
        code = error.exit_code
    except (_PipeError, BrokenPipeError) as error:
        broken = error.__cause__ or error
        if _nobody_reads():
            _drop_stdout()
            code = 0
        elif debug:
            raise broken from None
        else:
            code = _report_bug(broken)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM and error.filename is None:
            _drop_stdout()
            _line(f"error: the output cannot be written: {error.strerror} (free some space, or write elsewhere)")
            sys.exit(OutputError.exit_code)
        if debug:
            raise
        code = _report_bug(error)
    sys.exit(code or 0)


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What a full disk, an exceeded quota or a broken disk says when stdout goes there."""


def _nobody_reads() -> bool:
    """Whether who read stdout has gone (``bench list methods | head``), and not who read some other pipe."""
    if sys.stdout is None:
        return False
    try:
        sys.stdout.flush()  # what could not be written is still held, and fails again
        number = sys.stdout.fileno()
    except BrokenPipeError:
        return True
    except (OSError, ValueError):  # it is no file, or closed
        return False
    if not hasattr(select, "poll"):
        return False
    asked = select.poll()  # an unbuffered stdout holds nothing
    asked.register(number, 0)
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in asked.poll(0))


def _drop_stdout() -> None:
    """What is still to be written goes nowhere, so that ending does not try once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: BenchError, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    _line(f"error: {error}")
    return error.exit_code


def _report_bug(error: BaseException) -> int:
    _line(f"error: this is a bug: {type(error).__name__}: {error} (see the traceback with --debug)")
    return 70


def _line(text: str) -> None:
    """One line on stderr, whatever the text quotes: line breaks become spaces, other control characters escapes."""
    from bench.text import visible

    sys.stderr.write(visible(" ".join(text.splitlines())) + "\n")
