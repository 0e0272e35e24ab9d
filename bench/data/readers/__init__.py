"""Readers: one for each way in which data sets lie on disk.

A reader is a module with the format's name, and in it a class of that ``format`` which derives from
:class:`~bench.data.readers.base.Reader`. It lies in this package, or as ``<format>.py`` beside the user's cards, in a
folder that ``BENCH_CARDS`` names; other packages add theirs under the entry point group ``cellseg_bench.readers``.
Nothing is imported before a card asks for it.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from bench.data.cards import convert, user_folders
from bench.data.readers.base import Entry, Index, Reader, Truth
from bench.errors import DataError, UnknownNameError

ENTRY_POINT_GROUP = "cellseg_bench.readers"
_USERS = "_bench_reader_"
"""What the names of modules begin with that lie beside the user's cards."""

__all__ = [
    "Entry",
    "Index",
    "Reader",
    "Truth",
    "code_of",
    "make_options",
    "open_reader",
    "reader_class",
    "reader_names",
]


def reader_names() -> tuple[str, ...]:
    """Names of all formats, sorted."""
    return tuple(sorted({*_own_names(), *_files(), *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))}))


def reader_class(name: str) -> type[Reader]:
    """The reader of that format.

    Raises:
        UnknownNameError: there is none.
        DataError: the user's module or package for it is broken, or has the name of one of ours.
    """
    own, files = _own_names(), _files()
    if name in own and name in files:
        raise DataError(f"{files[name]}: there is a format {name!r} already", "give yours another name")
    if name in own:
        return _reader_in(importlib.import_module(f"{__name__}.{name}"), name, name)
    point = next((p for p in entry_points(group=ENTRY_POINT_GROUP) if p.name == name), None)
    where = str(files[name]) if name in files else "" if point is None else point.value
    if not where:
        raise UnknownNameError("format", name, reader_names())
    try:
        loaded = point.load() if point is not None and name not in files else _module_of(files[name])
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything
        raise DataError(f"{where}: the reader cannot be loaded: {type(error).__name__}: {error}") from error
    return _reader_in(loaded, name, where)


def code_of(reader: type[Reader]) -> str:
    """What tells whether a reader that is not ours was changed: a hash of its module; "" for ours."""
    if reader.__module__.startswith(f"{__name__}."):
        return ""
    file = inspect.getsourcefile(reader)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else reader.__qualname__


def _own_names() -> frozenset[str]:
    return frozenset(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def _files() -> dict[str, Path]:
    """Name of a format -> the module beside the user's cards that reads it."""
    found = (path for folder in reversed(user_folders()) for path in folder.glob("*.py"))
    return {path.stem: path.resolve() for path in found if not path.name.startswith("_")}


def _module_of(file: Path) -> ModuleType:
    name = f"{_USERS}{file.stem}"
    if (known := sys.modules.get(name)) is not None and known.__file__ == str(file):
        return known
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def _reader_in(loaded: object, name: str, where: str) -> type[Reader]:
    """The class in a module, or that an entry point names.

    Raises:
        DataError: it is not there.
    """
    candidates = vars(loaded).values() if isinstance(loaded, ModuleType) else (loaded,)
    classes = (c for c in candidates if isinstance(c, type) and issubclass(c, Reader))
    for found in classes:
        if getattr(found, "format", None) == name and not inspect.isabstract(found):
            return found
    raise DataError(
        f"{where}: no reader of the format {name!r} in it",
        f'it needs a class that derives from Reader, with format = "{name}", index() and truth()',
    )


class _UsersModules(MetaPathFinder):
    """Finds the modules beside the user's cards, in this process and in those that are sent a reader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """How such a module is loaded; None for all others."""
        file = _files().get(fullname.removeprefix(_USERS)) if fullname.startswith(_USERS) else None
        return None if file is None else spec_from_file_location(fullname, file)


if not any(isinstance(finder, _UsersModules) for finder in sys.meta_path):
    sys.meta_path.append(_UsersModules())


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
