"""Folders as they come out of archives: what systems leave in them, and the levels that unpacking adds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from bench.errors import DataError

_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
"""What Windows and macOS leave in folders and archives, lower case."""
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_AROUND = frozenset({"dataverse_files"})
"""Folders that archives put around everything, whatever it is, lower case."""
DOWNLOADS = ".downloads"
"""Folder, in that of the data set, for archives and what is half fetched."""
_MOST_LEVELS = 4
"""A linked folder may lie in itself."""


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """What the system refuses while files are looked for (a folder without permission, a share that is gone), in words.

    Raises:
        DataError: that.
    """
    try:
        yield
    except BrokenPipeError:  # of who listens, not of the files
        raise
    except OSError as error:
        raise DataError(f"{error.filename or 'a file'}: cannot be read: {error.strerror}") from None


def is_litter(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or left there by an operating system."""
    return name.startswith(".") or name.lower() in _LITTER


def visible(folder: Path) -> list[Path]:
    """What a folder holds, litter aside, sorted.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not is_litter(path.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None


def files_below(folder: Path) -> Iterator[Path]:
    """Every file however deep in a folder, in folders that are linked too, litter aside, sorted by folder.

    Where there is no such folder, there are none.

    Raises:
        DataError: a folder cannot be read.
    """
    if not folder.is_dir():
        return
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None

    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = sorted(
            f
            for f in folders
            if not is_litter(f) and os.path.realpath(Path(place, f)) not in seen  # links in a ring
        )
        yield from (Path(place, name) for name in sorted(files) if not is_litter(name) and Path(place, name).is_file())


def unwrapped(folder: Path, names: Collection[str]) -> Path:
    """The folder inside, where unpacking put one more around it.

    That is so where its only folder has its own name or one of ``names``, capitals aside, and in a BagIt archive, which
    keeps all its files in ``data``.

    Args:
        folder: that was unpacked, or any other path.
        names: that such a folder may have.
    """
    known = _AROUND.union(Path(name).name.lower() for name in names)
    bag = False
    for _ in range(_MOST_LEVELS):
        inside = _folders_in(folder) if folder.is_dir() else []
        if len(inside) != 1:
            break
        bag = bag or any((place / "bagit.txt").is_file() for place in (folder, inside[0]))
        if not bag and inside[0].name.lower() not in known | {folder.name.lower()}:
            break
        folder = inside[0]
    return folder


def _folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, litter aside, found without a look at each of its files."""
    with os.scandir(folder) as entries:
        return [folder / entry.name for entry in entries if not is_litter(entry.name) and entry.is_dir()]


def refuse_packed(*expected: Path) -> None:
    """Raise where a file is not there but packed, as ``train.csv.zip``.

    Raises:
        DataError: one of them is; the message names it.
    """
    for path in expected:
        for ending in _ARCHIVES:
            if not path.is_file() and (packed := path.with_name(path.name + ending)).is_file():
                raise DataError(f"{packed}: it is packed", f"unpack it, so that {path.name} lies beside it")


def nothing_in(folder: Path, what: str, expected: str) -> DataError:
    """The error of a reader that finds nothing to read in a folder.

    Args:
        folder: of the data set.
        what: there is not in it: "no image".
        expected: what there should be.
    """
    if not folder.is_dir():
        return DataError(f"{folder}: no such folder")
    held = visible(folder)
    if (folder / DOWNLOADS).is_dir() and all(path.name.endswith((".part", ".part.json")) for path in held):
        return DataError(f"{folder}: {what} in it, its download did not end", "repeat the command that began it")
    if packed := [path.name for path in held if path.suffix.lower() in _ARCHIVES]:
        return DataError(f"{folder}: {what} in it, but {packed[0]}", f"unpack it there; expected {expected}")
    return DataError(f"{folder}: {what} in it", f"expected {expected}")
