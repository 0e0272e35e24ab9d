"""The compact form that ``bench data prepare`` makes of a download: opened at once, however large.

A folder with ``images/`` (the files of the download, byte for byte), ``index.msgpack`` (what is known of each image)
and the truth of all images one after the other: ``masks.bin`` (compressed counts), ``spans.npy`` (where each mask
begins), ``classes.npy`` and ``crowd.npy``. These four are mapped, not read. The index begins with the sha256 of what
follows, and holds those of the four others and of the pixels of every image.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.data.readers.base import Entry, Index, Reader, Truth
from bench.data.system import write_whole
from bench.errors import DataError
from bench.instances import Instances

INDEX, MASKS, SPANS, CLASSES, CROWD = "index.msgpack", "masks.bin", "spans.npy", "classes.npy", "crowd.npy"
ARRAYS = (MASKS, SPANS, CLASSES, CROWD)
"""The files that hold the truth."""
FORMAT = 2
_DIGEST_BYTES = hashlib.sha256().digest_size


class PreparedImage(msgspec.Struct, array_like=True, frozen=True):
    """One image of the index; its masks are those from ``first`` on, ``count`` of them, None: not annotated.

    ``pixels`` is the hash of what was decoded (:func:`bench.data.scan.pixel_hash`).
    """

    id: str
    file: str
    part: str
    group: str | None
    first: int
    count: int | None
    notes: tuple[str, ...]
    pixels: str


class Sealed(msgspec.Struct, array_like=True, frozen=True):
    """A file as it was written: its sha256 and its time in nanoseconds. While that is the same it is not read again."""

    sha256: str
    time: int

    @classmethod
    def of(cls, path: Path) -> Sealed:
        """The file as it is now.

        Raises:
            DataError: it cannot be read.
        """
        try:
            with path.open("rb") as file:
                return cls(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_mtime_ns)
        except OSError as error:
            raise _unreadable(path, error) from None


class PreparedIndex(msgspec.Struct, frozen=True):
    """``index.msgpack``.

    Attributes:
        format: of the folder.
        card: name of the data set.
        classes: names of its classes.
        images: sorted by id.
        notes: what was left out of the download, with the reason.
        arrays: name -> what was written, for each of :data:`ARRAYS`.
        without_duplicates: whether images of which there was an equal one were left out.
    """

    format: int
    card: str
    classes: tuple[str, ...]
    images: tuple[PreparedImage, ...]
    notes: tuple[str, ...]
    arrays: dict[str, Sealed]
    without_duplicates: bool = False


class Prepared(Reader):
    """Reads a prepared folder."""

    format = "prepared"

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """No options."""

    @classmethod
    def names_classes(cls, options: Any) -> bool:
        """The classes stand in the folder."""
        return True

    def index(self) -> Index:
        """List the images; see :meth:`Reader.index`."""
        found = read_index(self.root)
        if any(_time(self.root / name) != found.arrays[name].time for name in ARRAYS):
            verify(self.root)  # masks that are not what was checked can make a decoder read anything
        self.classes = found.classes
        _ = self._masks
        entries = tuple(
            Entry(
                image.id,
                self.root / image.file,
                () if image.count is None else (self.root / MASKS,),
                image.part,
                image.group,
                (image.first, image.count, image.notes),
            )
            for image in found.images
        )
        return Index(entries, found.notes)

    def truth(self, entry: Entry, height: int, width: int) -> Truth:
        """The masks of one image; see :meth:`Reader.truth`."""
        first, count, notes = entry.key
        if count is None:
            return Truth(None, notes)
        spans = self._array(SPANS)[first : first + count + 1].tolist()
        masks = self._masks
        return Truth(
            Instances(
                height,
                width,
                tuple(bytes(masks[a:b]) for a, b in pairwise(spans)),
                np.array(self._array(CLASSES)[first : first + count], np.int64),
                crowd=np.array(self._array(CROWD)[first : first + count]),
            ),
            notes,
        )

    @cached_property
    def _masks(self) -> NDArray[np.uint8]:
        path = self.root / MASKS
        return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)

    def _array(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:
            try:
                self._arrays[name] = np.load(self.root / name, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise DataError(f"{self.root / name}: cannot be read: {error}", _again(self.root)) from None
        return self._arrays[name]

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped files, which another process maps for itself."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_masks", "_arrays")}


def verify(folder: Path) -> None:
    """Raise unless the truth in a prepared folder is what was written: masks, classes, crowd flags and the index.

    Raises:
        DataError: it is not; the message names the file.
    """
    expected = read_index(folder).arrays
    for name in ARRAYS:
        if Sealed.of(folder / name).sha256 != expected[name].sha256:
            raise DataError(f"{folder / name}: its content is not what was written", _again(folder))


def write_index(path: Path, index: PreparedIndex) -> None:
    """Write the index of a prepared folder, after the digest that :func:`read_index` compares.

    Raises:
        OutputError: it cannot be written.
    """
    content = msgspec.msgpack.encode(index)
    write_whole(path, hashlib.sha256(content).digest() + content)


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read: {error.strerror}", _again(path.parent))


def _again(folder: Path) -> str:
    return f"prepare the data set again: bench data prepare {folder.name} --again"


def read_index(folder: Path) -> PreparedIndex:
    """The index of a prepared folder.

    Raises:
        DataError: there is none, or it is not one of ours, or not as it was written.
    """
    path = folder / INDEX
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
            raise msgspec.DecodeError("its digest is not that of its content")
        found = msgspec.msgpack.decode(content[_DIGEST_BYTES:], type=PreparedIndex)
    except OSError as error:
        raise _unreadable(path, error) from None
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: not the index of a prepared data set: {error}", _again(folder)) from None
    if found.format != FORMAT:
        raise DataError(f"{path}: of format {found.format}, this version reads {FORMAT}", _again(folder))
    return found
