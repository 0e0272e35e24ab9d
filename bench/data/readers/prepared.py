"""The compact form that ``bench data prepare`` makes of a download: opened at once, however large.

A folder with ``images/`` (the files of the download, byte for byte), ``index.msgpack`` (what is known of each image)
and the truth of all images one after the other: ``masks.bin`` (compressed counts), ``spans.npy`` (where each mask
begins), ``classes.npy`` and ``crowd.npy``. These four are mapped, not read. The index begins with a line that names
the format, and the sha256 of what follows; it holds those of the four others and of the pixels of every image.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.data.origin import Origin
from bench.data.readers.base import Entry, Index, Reader, Truth
from bench.data.system import write_whole
from bench.errors import DataError, OutputError
from bench.instances import Instances

INDEX, MASKS, SPANS, CLASSES, CROWD = "index.msgpack", "masks.bin", "spans.npy", "classes.npy", "crowd.npy"
ARRAYS = (MASKS, SPANS, CLASSES, CROWD)
"""The files that hold the truth."""
FORMAT = 3
_MAGIC = b"cellseg-bench prepared "
"""What an index begins with, before the number of its format and a line break; formats 1 and 2 had no such line."""
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
            time = path.stat().st_mtime_ns  # first: what is written while it is read has another
            with path.open("rb") as file:
                return cls(hashlib.file_digest(file, "sha256").hexdigest(), time)
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
        origin: the files that were prepared; None where an earlier version of this program did not note them.
    """

    format: int
    card: str
    classes: tuple[str, ...]
    images: tuple[PreparedImage, ...]
    notes: tuple[str, ...]
    arrays: dict[str, Sealed]
    without_duplicates: bool = False
    origin: Origin | None = None


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
        _ensure_checked(self.root, found)  # masks that are not what was checked can make a decoder read anything
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
    _check(folder, read_index(folder))


def _check(folder: Path, index: PreparedIndex) -> dict[str, Sealed]:
    """The files that hold the truth as they are now, once their content is what was written."""
    found = {name: Sealed.of(folder / name) for name in ARRAYS}
    for name in ARRAYS:
        if found[name].sha256 != index.arrays[name].sha256:
            raise DataError(f"{folder / name}: its content is not what was written", _again(folder))
    return found


def _ensure_checked(folder: Path, index: PreparedIndex) -> None:
    """Check the files that hold the truth, unless their times are those at which they were written or last checked.

    A copy has other times: those are remembered in the cache, so that it is read once.

    Raises:
        DataError: as :func:`verify`.
    """
    now = {name: Sealed(index.arrays[name].sha256, _time(folder / name)) for name in ARRAYS}
    if now == index.arrays:
        return
    memory = _memory(folder)
    with contextlib.suppress(OSError, msgspec.DecodeError):  # nothing remembered, or not by us
        if msgspec.msgpack.decode(memory.read_bytes(), type=dict[str, Sealed]) == now:
            return
    found = _check(folder, index)
    with contextlib.suppress(OutputError):  # what is not remembered costs time, not results
        write_whole(memory, msgspec.msgpack.encode(found))


def _memory(folder: Path) -> Path:
    """Where it is remembered that a prepared folder was checked, and with which times."""
    from bench.data.scan import default_cache  # which needs the readers

    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return default_cache() / "checked" / f"{folder.name}-{key}.msgpack"


def write_index(path: Path, index: PreparedIndex) -> None:
    """Write the index of a prepared folder, after its format and the digest that :func:`read_index` compares.

    Raises:
        OutputError: it cannot be written.
    """
    content = msgspec.msgpack.encode(index)
    write_whole(path, b"%s%d\n" % (_MAGIC, index.format) + hashlib.sha256(content).digest() + content)


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read: {error.strerror}", _again(path.parent))


def _again(folder: Path, without_duplicates: bool = False) -> str:
    """What to do, with the command for the data root in which the folder lies."""
    choice = " --drop-duplicates" if without_duplicates else ""
    root = shlex.quote(str(folder.parent.parent))
    return f"prepare the data set again: bench data prepare {folder.name} --again{choice} --data-root {root}"


def read_index(folder: Path) -> PreparedIndex:
    """The index of a prepared folder.

    Raises:
        DataError: there is none, or it is not one of ours, or of another format, or not as it was written.
    """
    path = folder / INDEX
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    stamp, body = _stamp(content)
    if stamp is not None and stamp.format != FORMAT:
        age = "an older" if stamp.format < FORMAT else "a newer"
        raise DataError(
            f"{path}: prepared by {age} version of this program (format {stamp.format}, this one reads {FORMAT})",
            _again(folder, stamp.without_duplicates),
        )
    try:
        if stamp is None:
            raise msgspec.DecodeError("it does not begin like one")
        if hashlib.sha256(body[_DIGEST_BYTES:]).digest() != body[:_DIGEST_BYTES]:
            raise msgspec.DecodeError("its digest is not that of its content")
        return msgspec.msgpack.decode(body[_DIGEST_BYTES:], type=PreparedIndex)
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: not the index of a prepared data set: {error}", _again(folder)) from None


class _Stamp(msgspec.Struct):
    """What every format of the index holds, however the rest of it changes."""

    format: int
    without_duplicates: bool = False


def _stamp(content: bytes) -> tuple[_Stamp | None, bytes]:
    """The format of an index, None where it is none, and what follows the line that names it."""
    if begin := re.match(rb"%s(\d{1,9})\n" % _MAGIC, content):
        number, body = int(begin[1]), content[begin.end() :]
        if number == FORMAT:  # compared with its digest before it is decoded
            return _Stamp(number), body
        known = _decoded_stamp(body[_DIGEST_BYTES:])
        return _Stamp(number, known is not None and known.without_duplicates), body
    return _decoded_stamp(content) or _decoded_stamp(content[_DIGEST_BYTES:]), content  # format 1, format 2


def _decoded_stamp(content: bytes) -> _Stamp | None:
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.msgpack.decode(content, type=_Stamp)
    return None
