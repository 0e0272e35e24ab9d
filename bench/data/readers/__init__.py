"""Readers: one for each way in which data sets lie on disk.

A reader is a module of this package with the format's name, and in it a class that derives from
:class:`~bench.data.readers.base.Reader`; other packages add theirs under the entry point group
``cellseg_bench.readers``. Nothing is imported before a card asks for it.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec

from bench.data.cards import convert
from bench.data.readers.base import Entry, Index, Reader, Truth
from bench.errors import DataError, UnknownNameError

ENTRY_POINT_GROUP = "cellseg_bench.readers"

__all__ = ["Entry", "Index", "Reader", "Truth", "make_options", "open_reader", "reader_class", "reader_names"]


def reader_names() -> tuple[str, ...]:
    """Names of all formats, sorted."""
    own = {m.name for m in pkgutil.iter_modules(__path__) if m.name != "base"}
    return tuple(sorted(own | {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}))


def reader_class(name: str) -> type[Reader]:
    """The reader of that format.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in reader_names():
        raise UnknownNameError("format", name, reader_names())
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            loaded: type[Reader] = point.load()
            return loaded
    module = importlib.import_module(f"{__name__}.{name}")
    found = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Reader) and getattr(c, "format", None) == name
    ]
    return found[0]


def make_options(table: dict[str, Any], path: Path, key: str = "format") -> tuple[type[Reader], msgspec.Struct]:
    """The reader that a ``[format]`` table names, and its options.

    Args:
        table: ``name`` and the options of that reader.
        path: the card, for errors.
        key: under which the table stands in the card.

    Raises:
        DataError: no or an unknown name, or options that the reader does not have.
    """
    name = table.get("name")
    if not isinstance(name, str):
        raise DataError(f"{path}: {key}.name: missing", f"one of: {', '.join(reader_names())}")
    try:
        reader = reader_class(name)
    except UnknownNameError as error:
        raise DataError(f"{path}: {key}.name: {error.message}", error.hint) from None
    options = {key: value for key, value in table.items() if key != "name"}
    return reader, convert(options, reader.Options, path, key)


def open_reader(table: dict[str, Any], path: Path, root: Path, classes: tuple[str, ...]) -> Reader:
    """A reader for the files under ``root``, as the ``[format]`` table of the card at ``path`` says."""
    reader, options = make_options(table, path)
    return reader(root, options, classes)
