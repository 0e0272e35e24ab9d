"""What a prepared data set was made from, so that a later change to those files is noticed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

import msgspec

from bench.data.folders import is_litter

FileState = tuple[str, int, int]
"""A file: its path relative to the folder, its size in bytes, its modification time in nanoseconds."""


class Origin(msgspec.Struct, array_like=True, frozen=True):
    """The files that were prepared: their folder, which of its files count, and what tells whether one changed.

    Attributes:
        folder: absolute.
        suffixes: of the files that count, lower case; others, such as a README, may come and go.
        fingerprint: hash of the names, sizes and modification times of those files.
    """

    folder: str
    suffixes: tuple[str, ...]
    fingerprint: str

    @classmethod
    def of(cls, folder: Path, files: Collection[FileState], suffixes: Collection[str]) -> Origin:
        """The origin, from what :func:`states` listed before the files were read."""
        return cls(str(folder.absolute()), tuple(sorted(suffixes)), _fingerprint(files, suffixes))

    def has_changed(self, data_root: Path) -> bool:
        """Whether the files differ from those that were prepared; False where they are gone, as they may be."""
        files = [file for file in states(Path(self.folder), data_root) if _suffix(file) in self.suffixes]
        return bool(files) and _fingerprint(files, self.suffixes) != self.fingerprint


def states(folder: Path, data_root: Path) -> list[FileState]:
    """Every file below a folder, litter and what the program itself made in the data root aside; none without it.

    Nothing is read: some thousand files take some hundredths of a second. What cannot be looked at is not listed.
    """
    return list(_states(folder, {os.path.realpath(data_root / made) for made in ("prepared", "synthetic")}))


def _states(folder: Path, passed: Collection[str]) -> Iterator[FileState]:
    seen = set(passed)
    for place, folders, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(place))
        inside = Path(place).relative_to(folder)
        folders[:] = [f for f in folders if not is_litter(f) and os.path.realpath(Path(place, f)) not in seen]
        for name in files:
            if is_litter(name):
                continue
            try:
                status = Path(place, name).stat()
            except OSError:  # a link to nowhere
                continue
            yield (inside / name).as_posix(), status.st_size, status.st_mtime_ns


def _suffix(file: FileState) -> str:
    return PurePosixPath(file[0]).suffix.lower()


def _fingerprint(files: Collection[FileState], suffixes: Collection[str]) -> str:
    chosen = sorted(file for file in files if _suffix(file) in suffixes)
    return hashlib.sha256(repr(chosen).encode()).hexdigest()[:32]
