"""From an official download to the compact form of :mod:`bench.data.readers.prepared`, once."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.data.cards import Card, read_card
from bench.data.folders import readable, unwrapped
from bench.data.membership import superfluous
from bench.data.origin import FileState, Origin, states
from bench.data.readers import Entry, Index, Reader, open_reader
from bench.data.readers.prepared import (
    ARRAYS,
    CLASSES,
    CROWD,
    FORMAT,
    INDEX,
    MASKS,
    SPANS,
    PreparedImage,
    PreparedIndex,
    Sealed,
    read_index,
    write_index,
)
from bench.data.scan import FACTS, ImageFacts, Progress, facts_of, fingerprint, save_facts
from bench.data.system import processors, write_whole, writing
from bench.data.workers import be_worker, run
from bench.errors import DataError, OutputError, UsageError

PREPARED = "prepared"
"""Folder of a data root in which prepared data sets lie, and the name of their format."""

_PART = ".part"
_MOST_WORKERS = 4
"""Each holds the annotations: more of them cost memory, and the disk is as fast as it is."""


def prepared_folder(card: Card, root: Path) -> Path:
    """Where the prepared form of a data set lies under a data root."""
    return root / PREPARED / card.name


def is_prepared(card: Card, root: Path) -> bool:
    """Whether it is there; the index is written last."""
    return (prepared_folder(card, root) / INDEX).is_file()


def prepare(
    card: Card,
    source: Path,
    root: Path,
    progress: Progress | None = None,
    again: bool = False,
    drop_duplicates: bool = False,
) -> Path:
    """Read a download once and write it in the compact form.

    Every image is decoded and every mask checked. Image files are linked where the file system can, else copied; those
    that only their own reader reads are written anew, pixel for pixel. The
    result is there whole or not at all; one that was there before stays until then, and comes back where a kill had
    just moved it aside.

    Args:
        card: of the data set.
        source: the folder of the official download.
        root: the data root; the result lies below it.
        progress: called as ``progress(done, total, text)``.
        again: make it anew even if it is there.
        drop_duplicates: leave out all but one of several images with the same pixels, as
            :func:`bench.data.membership.superfluous` chooses; each is noted.

    Returns:
        the folder.

    Raises:
        UsageError: it is there, and duplicates were treated otherwise; or another process is making it.
        DataError: a broken download.
        OutputError: the result cannot be written.
    """
    with readable():
        if source.is_file():
            raise DataError(f"{source}: a file, not a folder", "unpack it, and name the folder")
        if not source.is_dir():
            raise DataError(f"{source}: no such folder", f"name the folder of the download of {card.name}")
        source = unwrapped(source, card.folders)
    folder = prepared_folder(card, root)
    if not again and _is_there(folder, drop_duplicates):
        return folder
    if source.resolve() == folder.resolve():
        raise UsageError(f"{source}: that is the prepared form itself", "name the folder of the download")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}", "name another data root") from None
    with _alone(folder):
        staging, former = (folder.with_name(f".{folder.name}.{kind}") for kind in ("part", "former"))
        _after_a_kill(folder, staging, former)
        if not again and _is_there(folder, drop_duplicates):
            return folder
        try:
            _make(card, source, staging, progress, drop_duplicates)
            _replace(folder, staging, former)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return folder


def _is_there(folder: Path, drop_duplicates: bool) -> bool:
    """Whether the folder holds a prepared data set.

    Raises:
        UsageError: it does, and duplicates were treated otherwise.
        DataError: its index cannot be read.
    """
    if not (folder / INDEX).is_file():
        return False
    if read_index(folder).without_duplicates != drop_duplicates:
        kept = "with" if drop_duplicates else "without"
        raise UsageError(f"{folder.name} is already prepared {kept} duplicates, in {folder}", "--again replaces it")
    return True


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from preparing the same data set."""
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    try:
        with lock:
            yield
    except filelock.Timeout:
        raise UsageError(f"{folder}: another process is making it", "wait until that has ended") from None


def _make(card: Card, source: Path, folder: Path, progress: Progress | None, drop_duplicates: bool) -> None:
    workers = min(_MOST_WORKERS, processors())
    files = states(source, folder.parent.parent)  # before they are read: what changes meanwhile is noticed later
    arguments = [str(card.path), str(source.absolute()), str(folder.absolute())]
    for done, total in enumerate(run("bench.data.prepare", arguments, workers), 1):
        if progress:
            progress(done, int(total), f"preparing {card.name}")
    _merge(card, folder, workers, drop_duplicates, source, files)
    for worker in range(workers):
        shutil.rmtree(folder / f"{_PART}-{worker}", ignore_errors=True)


def _after_a_kill(folder: Path, staging: Path, former: Path) -> None:
    """Bring back what :func:`_replace` had moved aside and not yet replaced; take away everything else it left."""
    try:
        if not folder.exists() and (former / INDEX).is_file():
            former.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}", f"rename {former} to that") from None
    for rest in (staging, former):
        shutil.rmtree(rest, ignore_errors=True)


def _replace(folder: Path, new: Path, former: Path) -> None:
    """Put ``new`` where ``folder`` is; if that fails, ``folder`` is as it was."""
    try:
        if folder.exists():
            folder.rename(former)
        try:
            new.rename(folder)
        finally:
            if former.exists() and not folder.exists():
                former.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}", "name another data root") from None
    shutil.rmtree(former, ignore_errors=True)


# -- a worker ------------------------------------------------------------------------------------------


class _Part(msgspec.Struct):
    """What a worker found: its images, their facts, and their masks as lengths, classes and crowd flags.

    ``suffixes`` are those of all files that are read, lower case.
    """

    classes: tuple[str, ...]
    notes: tuple[str, ...]
    suffixes: tuple[str, ...]
    images: list[PreparedImage]
    facts: list[ImageFacts]
    lengths: list[int]
    class_ids: list[int]
    crowd: list[bool]


def _work(arguments: list[str], worker: int, workers: int, say: Callable[[str], None]) -> None:
    """Read images ``worker``, ``worker + workers``, and so on, into a part of the result."""
    card, source, folder = read_card(Path(arguments[0])), Path(arguments[1]), Path(arguments[2])
    reader = open_reader(card.format, card.path, source, card.task.classes)
    with readable():
        index = reader.index()
    card.check_classes(reader.classes, source)
    suffixes = {path.suffix.lower() for entry in index.entries for path in (entry.image, *entry.truth)}
    part = _Part(reader.classes, index.notes, tuple(suffixes), [], [], [], [], [])
    target = folder / f"{_PART}-{worker}"
    with writing(target / MASKS) as masks:
        for entry in index.entries[worker::workers]:
            masks.writelines(_read(reader, entry, source, folder, part))
            say(str(len(index.entries)))
    write_whole(target / INDEX, msgspec.msgpack.encode(part))


def _read(reader: Reader, entry: Entry, source: Path, folder: Path, part: _Part) -> Iterator[bytes]:
    """Add one image to a part; its masks."""
    image = reader.image(entry)
    truth = reader.truth(entry, *image.shape[:2])
    readable_by_all = type(reader).image is Reader.image
    file = _place(entry.image, source, folder) if readable_by_all else _written(entry, image, folder)
    its = truth.instances
    count = None if its is None else len(its)
    facts = facts_of(entry, "", image, truth)
    part.images.append(
        PreparedImage(entry.id, file, entry.part, entry.group, len(part.class_ids), count, truth.notes, facts.pixels)
    )
    part.facts.append(facts)
    if its is not None:
        part.lengths += map(len, its.rles)
        part.class_ids += its.class_ids.tolist()
        part.crowd += its.crowd.tolist()
        yield from its.rles


def _written(entry: Entry, image: NDArray[Any], folder: Path) -> str:
    """Write the pixels of an image whose file only its own reader reads; the path in the prepared folder."""
    import tifffile

    name = f"{entry.image.stem}-{hashlib.sha256(entry.id.encode()).hexdigest()[:8]}.tif"
    content = io.BytesIO()
    colour = "rgb" if image.ndim == 3 and image.shape[2] in (3, 4) else "minisblack"
    planes = "contig" if image.ndim == 3 else None
    tifffile.imwrite(content, image, photometric=colour, planarconfig=planes, compression="zlib", metadata=None)
    write_whole(folder / "images" / name, content.getvalue())
    return f"images/{name}"


def _place(image: Path, source: Path, folder: Path) -> str:
    """Link or copy an image file; its path in the prepared folder."""
    inside = image.is_relative_to(source) and ".." not in image.relative_to(source).parts
    place = image.relative_to(source) if inside else Path("elsewhere", *image.resolve().parts[1:])
    target = folder / "images" / place
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(image.resolve(), temporary)
        except OSError:  # another file system, or one without links
            shutil.copy2(image, temporary)
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}", "free some space") from None
    finally:
        temporary.unlink(missing_ok=True)
    return target.relative_to(folder).as_posix()


def _merge(
    card: Card, folder: Path, workers: int, drop_duplicates: bool, origin: Path, files: Collection[FileState]
) -> None:
    """One result of all parts, which were read from these files of the folder ``origin``."""
    images: list[PreparedImage] = []
    facts: dict[str, ImageFacts] = {}
    lengths, class_ids, crowd = list[int](), list[int](), list[bool]()
    with writing(folder / MASKS) as masks:
        for worker in range(workers):
            source = folder / f"{_PART}-{worker}"
            part = msgspec.msgpack.decode((source / INDEX).read_bytes(), type=_Part)
            first = len(class_ids)
            images += (msgspec.structs.replace(image, first=image.first + first) for image in part.images)
            facts |= {fact.id: fact for fact in part.facts}
            lengths += part.lengths
            class_ids += part.class_ids
            crowd += part.crowd
            with (source / MASKS).open("rb") as file:
                while block := file.read(1 << 22):
                    masks.write(block)
    arrays: dict[str, NDArray[Any]] = {
        SPANS: np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64),
        CLASSES: np.array(class_ids, np.int32),
        CROWD: np.array(crowd, np.bool_),
    }
    for name, array in arrays.items():
        content = io.BytesIO()
        np.save(content, array)
        write_whole(folder / name, content.getvalue())
    images.sort(key=lambda image: image.id)
    index = PreparedIndex(
        FORMAT,
        card.name,
        part.classes,
        tuple(images),
        part.notes,
        {name: Sealed.of(folder / name) for name in ARRAYS},
        origin=Origin.of(origin, files, part.suffixes),
    )
    if drop_duplicates:
        index = _without_duplicates(card, folder, index, facts)
    write_index(folder / INDEX, index)
    entries = open_reader({"name": PREPARED}, card.path, folder, ()).index().entries
    known = {e.id: msgspec.structs.replace(facts[e.id], fingerprint=fingerprint(folder, e)) for e in entries}
    save_facts(folder / FACTS, known)


def _without_duplicates(
    card: Card, folder: Path, index: PreparedIndex, facts: Mapping[str, ImageFacts]
) -> PreparedIndex:
    """Leave out the images of which there is an equal one. Their masks stay where they are, and are not read."""
    entries = tuple(Entry(i.id, folder / i.file, (), i.part, i.group) for i in index.images)
    dropped = superfluous(card, Index(entries), {e.id: facts[e.id].pixels for e in entries})
    kept = tuple(image for image in index.images if image.id not in dropped)
    for file in {image.file for image in index.images} - {image.file for image in kept}:
        (folder / file).unlink()
    notes = sorted(f"{i}: the same image as {same}, left out" for i, same in dropped.items())
    return msgspec.structs.replace(index, images=kept, notes=(*index.notes, *notes), without_duplicates=True)


if __name__ == "__main__":
    sys.exit(be_worker(_work))
