"""What the papers report: their tables, as files in ``datasets/reported``, one a paper.

The files hold numbers as they are printed; here they become records in the units of the protocols, so that a reported
number and a measured one can stand side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from bench.data.cards import card_folders, convert, read_toml
from bench.errors import DataError
from bench.records import ReportedResultRecord

FOLDER = "reported"
MISSING = "-"
"""Printed where a paper gives no number."""

_UNITS = {"percent": (0.01, "fraction"), "fraction": (1.0, "fraction"), "s": (1000.0, "ms"), "ms": (1.0, "ms")}
"""Printed unit -> factor and unit of the record."""


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of a table: its printed head, and the protocol and metric that come nearest.

    ``comparable`` says that images, split and rule are those of a run here; where it does not, ``note`` says why.
    """

    printed: str
    protocol: str
    metric: str
    unit: Literal["percent", "fraction", "s", "ms"]
    comparable: bool = False
    note: str = ""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A method of a table, with its numbers as they are printed, one a column."""

    method: str
    values: tuple[str, ...]
    counterpart: str = ""
    note: str = ""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a paper, or the part of it that is about one data set and split.

    ``split`` is the one of the card that comes nearest. ``wording`` is how the paper words its protocol, quoted, with
    ``[...]`` where something is left out; what is ours stands in the notes.
    """

    name: str
    dataset: str
    wording: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    split: str = ""
    hardware: str = ""


class PaperFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of ``datasets/reported``."""

    paper: str
    bibtex: str
    tables: tuple[Table, ...]


def papers() -> list[PaperFile]:
    """Every paper of which numbers are known, in the order of the files.

    Raises:
        DataError: a broken file; the message names it and the key.
    """
    return [convert(read_toml(path), PaperFile, path) for path in _files()]


def reported_results() -> list[ReportedResultRecord]:
    """Every number that the papers report, in their order.

    Raises:
        DataError: a broken file; the message names it and the number.
    """
    found: list[ReportedResultRecord] = []
    for path in _files():
        paper: PaperFile = convert(read_toml(path), PaperFile, path)
        for table in paper.tables:
            found += _records(path, paper.paper, table)
    return found


def _files() -> list[Path]:
    return [path for folder in card_folders() for path in sorted((folder / FOLDER).glob("*.toml"))]


def _records(path: Path, paper: str, table: Table) -> Iterator[ReportedResultRecord]:
    for row in table.rows:
        if len(row.values) != len(table.columns):
            raise DataError(
                f"{path}: {table.name}: {row.method} has {len(row.values)} numbers for {len(table.columns)} columns",
                f'write "{MISSING}" where none is printed',
            )
        for column, printed in zip(table.columns, row.values, strict=True):
            if printed == MISSING:
                continue
            value = _number(printed, f"{path}: {table.name}: {row.method}")
            note = "; ".join(note for note in (row.note, column.note) if note)
            _check(f"{path}: {table.name}: {row.method}: {column.printed}", column, table, row, note)
            factor, unit = _UNITS[column.unit]
            yield ReportedResultRecord(
                paper=paper,
                table=table.name,
                method=row.method,
                dataset=table.dataset,
                protocol=column.protocol,
                metric=column.metric,
                value=value * factor,
                unit=unit,
                comparable=column.comparable,
                note=note,
                split=table.split,
                counterpart=row.counterpart,
                hardware=table.hardware,
                wording=table.wording,
            )


def _check(where: str, column: Column, table: Table, row: Row, note: str) -> None:
    """A number can stand beside a measured one, or says why not."""
    if column.comparable and not (table.split and row.counterpart):
        lacking = "no split" if not table.split else "no counterpart"
        raise DataError(f"{where}: comparable, but there is {lacking}", "name it, or say comparable = false and why")
    if not note and not (column.comparable and table.split and row.counterpart):
        raise DataError(f"{where}: not comparable, or without split or counterpart", "say why in a note")


def _number(printed: str, where: str) -> float:
    try:
        value = float(printed)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {printed!r} is no number", "write it as it is printed, without a unit")
    return value
