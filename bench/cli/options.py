"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from bench.errors import UsageError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def database() -> Decorator:
    """``--db``."""
    return click.option("--db", metavar="FILE|URL", help="Database; default $BENCH_DB or ./bench.db.")


def data_root() -> Decorator:
    """``--data-root``."""
    return click.option(
        "--data-root",
        type=click.Path(path_type=Path),
        help="Folder in which data sets lie; default $BENCH_DATA_ROOT or ./data.",
    )


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


def as_json() -> Decorator:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def settings(pairs: tuple[str, ...], option: str = "--set name=value") -> dict[str, str]:
    """``("a=1", "b=x")`` as a dictionary; ``option`` is how the user should have written it.

    Raises:
        UsageError: a pair without ``=``.
    """
    found = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{pair!r} is not a setting", f"write {option}")
        found[key.strip()] = value.strip()
    return found


def comma_separated(values: tuple[str, ...]) -> list[str]:
    """Values of a repeatable option, each of which may be a comma-separated list; order kept, doubles dropped."""
    return list(dict.fromkeys(part.strip() for value in values for part in value.split(",") if part.strip()))


def emit(value: Any) -> None:
    """Print JSON to stdout, with null where a number is undefined."""
    import json

    click.echo(json.dumps(value, indent=2, default=str, allow_nan=False), file=sys.stdout)


def integers(option: str, values: tuple[str, ...]) -> list[int]:
    """Whole numbers, not negative, of a repeatable comma-separated option.

    Raises:
        UsageError: something else.
    """
    parts = comma_separated(values)
    wrong = [p for p in parts if not p.isdecimal()]
    if wrong or not parts:
        raise UsageError(f"{option} {wrong[0] if wrong else ''!r} is not a whole number of 0 or more")
    return [int(p) for p in parts]


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell; control characters become spaces. Needs nothing heavy."""
    clean = [["".join(c if c.isprintable() else " " for c in cell) for cell in row] for row in rows]
    widths = [max(len(column), *(len(row[i]) for row in clean), 0) for i, column in enumerate(columns)]
    lines = [columns, ["-" * width for width in widths], *clean]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def references(runs: tuple[str, ...]) -> list[int | str]:
    """Runs as the user names them: a number, or the beginning of a key."""
    return [int(run) if run.isdecimal() and len(run) < 12 else run for run in runs]
