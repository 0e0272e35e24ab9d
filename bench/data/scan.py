"""What is on disk: every image and its truth read once, hashed and counted, and remembered.

The facts of an image are kept in a small cache file with the names, sizes and modification times of its files;
while those stay the same the files are not read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.data.readers import Entry, Reader, Truth
from bench.data.system import processors, write_whole
from bench.errors import BenchError, DataError, OutputError
from bench.instances import Instances

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, text)``."""

CACHE_VARIABLE = "BENCH_CACHE"
FACTS = "facts.msgpack"
"""Name of the cache file inside a prepared data set."""
_CACHE_FORMAT = 1


class ImageFacts(msgspec.Struct, array_like=True, frozen=True):
    """What is known of one image once it was read.

    Attributes:
        id: of the image.
        fingerprint: hash of the names, sizes and modification times of its files.
        pixels: sha256 of the decoded image (see :func:`pixel_hash`).
        truth: sha256 of its instances (see :func:`truth_hash`).
        height: pixels.
        width: pixels.
        instances: how many, crowd regions aside; None where the image is not annotated.
        notes: what of its truth was left out, with the reason.
    """

    id: str
    fingerprint: str
    pixels: str
    truth: str
    height: int
    width: int
    instances: int | None
    notes: tuple[str, ...] = ()


class _CacheFile(msgspec.Struct):
    format: int
    images: list[ImageFacts]


def pixel_hash(image: NDArray[Any]) -> str:
    """sha256 of the pixels: the same in any lossless file format.

    Over the text ``<dtype> <shape>``, such as ``uint8 520x704``, a zero byte, and the values in row-major order,
    little-endian.
    """
    digest = hashlib.sha256(f"{image.dtype.name} {'x'.join(map(str, image.shape))}\0".encode())
    digest.update(np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def truth_hash(truth: Instances | None) -> str:
    """sha256 of the instances in their order: class, crowd flag and mask of each."""
    if truth is None:
        return hashlib.sha256(b"not annotated").hexdigest()
    parts = [b"%dx%d" % truth.shape]
    for counts, class_id, crowd in zip(truth.rles, truth.class_ids.tolist(), truth.crowd.tolist(), strict=True):
        parts.append(b"%d %d %s" % (class_id, crowd, counts))
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def read_facts(reader: Reader, entry: Entry, fingerprint: str) -> ImageFacts:
    """Read one image and its truth.

    Raises:
        DataError: broken or contradictory files.
    """
    image = reader.image(entry)
    return facts_of(entry, fingerprint, image, reader.truth(entry, *image.shape[:2]))


def facts_of(entry: Entry, fingerprint: str, image: NDArray[Any], truth: Truth) -> ImageFacts:
    """The facts of an image that was read."""
    height, width = image.shape[:2]
    count = None if truth.instances is None else int((~truth.instances.crowd).sum())
    return ImageFacts(
        entry.id, fingerprint, pixel_hash(image), truth_hash(truth.instances), height, width, count, truth.notes
    )


def scan(
    reader: Reader,
    entries: Iterable[Entry],
    cache_file: Path | None,
    progress: Progress | None = None,
    broken: dict[str, BenchError] | None = None,
) -> tuple[ImageFacts, ...]:
    """The facts of all ``entries``, from the cache where their files did not change.

    Args:
        reader: of the data set.
        entries: its images.
        cache_file: where the facts are kept, or None. If it cannot be written, nothing is kept.
        progress: called for each image that is read.
        broken: if given, an image with broken files is left out and put here instead of being raised.

    Raises:
        DataError: broken or contradictory files.
    """
    known = _load_cache(cache_file)
    entries = list(entries)
    fingerprints: dict[str, str] = {}
    for entry in entries:
        with _collecting(broken, entry):
            fingerprints[entry.id] = fingerprint(reader.root, entry)
    facts = {i: known[i] for i in fingerprints if i in known and known[i].fingerprint == fingerprints[i]}
    missing = [entry for entry in entries if entry.id in fingerprints and entry.id not in facts]

    def read(entry: Entry) -> ImageFacts | None:
        with _collecting(broken, entry):
            return read_facts(reader, entry, fingerprints[entry.id])
        return None

    if missing:
        pool = ThreadPoolExecutor(max_workers=min(8, processors()))
        try:
            for done, fact in enumerate(pool.map(read, missing), 1):
                if fact is not None:
                    facts[fact.id] = fact
                if progress:
                    progress(done, len(missing), f"reading {reader.root.name}")
        finally:
            pool.shutdown(cancel_futures=True)
            save_facts(cache_file, facts)
    return tuple(facts[entry.id] for entry in entries if entry.id in facts)


@contextlib.contextmanager
def _collecting(broken: dict[str, BenchError] | None, entry: Entry) -> Iterator[None]:
    """Put the error of an image into ``broken`` if that is given."""
    try:
        yield
    except DataError as error:
        if broken is None:
            raise
        broken[entry.id] = error


def default_cache() -> Path:
    """The folder for what can be made again: ``BENCH_CACHE``, else the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cellseg-bench"


def fingerprint(root: Path, entry: Entry) -> str:
    """Hash of what tells whether the files of an image changed: their names, sizes and modification times.

    Raises:
        DataError: a file is missing.
    """
    digest = hashlib.sha256(f"{entry.part}\0{entry.group}".encode())
    for path in (entry.image, *entry.truth):
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        digest.update(f"\0{os.path.relpath(path, root)}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]


def kept_facts(path: Path) -> tuple[ImageFacts, ...] | None:
    """What an earlier :func:`scan` kept in that file, or None. The files may have changed since."""
    found = _load_cache(path)
    return tuple(found.values()) if found else None


def _load_cache(path: Path | None) -> dict[str, ImageFacts]:
    if path is None:
        return {}
    try:
        file = msgspec.msgpack.decode(path.read_bytes(), type=_CacheFile)
    except (OSError, msgspec.DecodeError):  # no cache, or not one of ours: read the files again
        return {}
    return {facts.id: facts for facts in file.images} if file.format == _CACHE_FORMAT else {}


def save_facts(path: Path | None, facts: dict[str, ImageFacts]) -> None:
    """Remember facts for the next :func:`scan` with that cache file; if it cannot be written they are not."""
    if path is None:
        return
    data = msgspec.msgpack.encode(_CacheFile(_CACHE_FORMAT, list(facts.values())))
    with contextlib.suppress(OutputError):  # a cache that cannot be written costs time, not results
        write_whole(path, data)
