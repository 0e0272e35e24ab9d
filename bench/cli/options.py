"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from bench.errors import BenchError, OutputError, UnknownNameError, UsageError
from bench.text import visible, width

LARGEST_SEED = 2**32 - 1
"""What every generator of random numbers takes."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def database() -> Decorator:
    """``--db``."""
    return click.option("--db", metavar="FILE|URL", help="Database; default $BENCH_DB or ./bench.db.")


def data_root() -> Decorator:
    """``--data-root``."""
    return click.option(
        "--data-root",
        type=click.Path(path_type=Path),
        callback=_no_file,
        help="Folder in which data sets lie; default $BENCH_DATA_ROOT or ./data.",
    )


def _no_file(_context: click.Context, _option: click.Parameter, given: Path | None) -> Path | None:
    if given is not None and given.expanduser().exists() and not given.expanduser().is_dir():
        raise UsageError(f"--data-root {given}: that is no folder", "name the one in which data sets lie")
    return given


def existing_folder(data_root: Path | None) -> Path | None:
    """A data root to look into: one that is named must be there.

    Raises:
        UsageError: there is no such folder.
    """
    if data_root is not None and not data_root.expanduser().is_dir():
        raise UsageError(f"--data-root {data_root}: there is no such folder", "name the one in which data sets lie")
    return data_root


def in_a_folder(_context: click.Context, option: click.Parameter, given: Path | None) -> Path | None:
    """Callback of an option that names what is to be written: the folder around it must be there.

    Raises:
        OutputError: there is none; said before anything is computed.
    """
    if given is not None and not given.parent.is_dir():
        raise OutputError(f"{option.opts[0]} {given}: there is no folder {given.parent}", "make it, or name another")
    return given


class Command(click.Command):
    """A command whose options of paths and names are not empty, as those of an unset variable of the shell are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line.

        Raises:
            UsageError: an option is given as the empty string, which would otherwise mean this folder, or the default.
        """
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        for option in self.params:
            if isinstance(option, click.Option) and option.name is not None and given.get(option.name) == "":
                raise UsageError(f"{option.opts[0]} is empty", "give it a value, or leave it out")
        return super().parse_args(ctx, args)


class Group(click.Group):
    """Commands below a command; a misspelt one is answered with the nearest names."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """What is called.

        Raises:
            UnknownNameError: there is no such command.
        """
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            raise UnknownNameError(f"command of {ctx.command_path}", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


def compute() -> Decorator:
    """``--amp``, ``--channels-last`` and ``--compile``."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--compile", is_flag=True, help="Compile the network's trunk with torch.compile."),
            click.option("--channels-last", is_flag=True, help="Lay out the network's maps pixel by pixel."),
            click.option("--amp", type=click.Choice(("bfloat16", "float16")), help="Mixed precision."),
        ):
            command = option(command)
        return command

    return decorate


def trained_on(what: str) -> Decorator:
    """``--trained-on``."""
    return click.option(
        "--trained-on",
        multiple=True,
        metavar="CARD[,CARD]",
        help=f"{what}. The evaluated one only if more than its training split was used: such a run is marked "
        "trained-on-this and never ranks.",
    )


def as_json() -> Decorator:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def settings(pairs: tuple[str, ...], option: str = "--set NAME=VALUE") -> dict[str, str]:
    """``("a=1", "b=x")`` as a dictionary; ``option`` is how the user should have written it.

    Raises:
        UsageError: a pair without ``=``.
    """
    found = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            name, _, form = option.partition(" ")
            raise UsageError(f"{name} {pair!r} is not {form}", f"write {option}")
        found[key.strip()] = value.strip()
    return found


def comma_separated(values: tuple[str, ...]) -> list[str]:
    """Values of a repeatable option, each of which may be a comma-separated list; order kept, doubles dropped."""
    return list(dict.fromkeys(part.strip() for value in values for part in value.split(",") if part.strip()))


def names(what: str, values: tuple[str, ...]) -> list[str]:
    """The names in :func:`comma_separated` values, of which there is one at least.

    Raises:
        UsageError: there is none.
    """
    found = comma_separated(values)
    if not found:
        raise UsageError(f"{what} names nothing", "give a name, or several with commas between them")
    return found


def emit(value: Any) -> None:
    """Print JSON to stdout, with null where a number is undefined."""
    import json

    click.echo(json.dumps(value, indent=2, default=str, allow_nan=False), file=sys.stdout)


def tell(text: str, *, err: bool = False) -> None:
    """Print a line. What it quotes may come from anybody's files, so control characters are written as escapes."""
    click.echo(visible(text), err=err)


def tell_lines(text: str) -> None:
    """Print several lines, with every other control character as an escape."""
    for line in text.split("\n"):
        tell(line)


def fail(errors: Sequence[BenchError]) -> None:
    """End as the last of several errors does, after a line for each; go on where there is none."""
    for error in errors[:-1]:
        tell(f"error: {error}", err=True)
    if errors:
        raise errors[-1]


def terminal_width() -> int | None:
    """Characters of a line of the terminal; None where stdout is a file or a pipe, whose lines may be of any length."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def integers(option: str, values: tuple[str, ...]) -> list[int]:
    """Whole numbers, not negative, of a repeatable comma-separated option.

    Raises:
        UsageError: something else.
    """
    parts = comma_separated(values)
    wrong = [
        p for p in parts if not p.isdecimal() or len(p.lstrip("0")) > len(str(LARGEST_SEED)) or int(p) > LARGEST_SEED
    ]
    if wrong or not parts:
        shown = repr(wrong[0][:40] if wrong else "")
        raise UsageError(f"{option} {shown} is not a whole number from 0 to {LARGEST_SEED}")
    return [int(p) for p in parts]


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell; control characters become escapes. Needs nothing heavy."""
    clean = [[visible(cell) for cell in row] for row in rows]
    widths = [max(width(column), *(width(row[i]) for row in clean), 0) for i, column in enumerate(columns)]
    lines = [columns, ["-" * wide for wide in widths], *clean]
    return "\n".join(
        "  ".join(cell + " " * (wide - width(cell)) for cell, wide in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def references(runs: tuple[str, ...]) -> list[int | str]:
    """Runs as the user names them: a number, or the beginning of a key."""
    return [int(run) if run.isdecimal() and len(run) < 12 else run for run in runs]
