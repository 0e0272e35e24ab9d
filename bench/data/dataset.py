"""A data set that can be read: its card, its version, and its splits."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench.data import splits, synthetic
from bench.data.cards import Card, ObjectsTable, load_card
from bench.data.folders import readable, unwrapped
from bench.data.membership import members, superfluous
from bench.data.prepare import PREPARED, is_prepared, prepared_folder
from bench.data.readers import Entry, Index, Reader, code_of, open_reader, reader_class
from bench.data.readers.prepared import read_index
from bench.data.scan import FACTS, ImageFacts, Progress, default_cache, scan
from bench.data.system import write_whole
from bench.errors import BenchError, DataError, OutputError, UnknownNameError, UsageError
from bench.instances import Sample
from bench.records import DatasetVersionRecord, ImageRecord
from bench.task import ObjectStatistics, Task

DATA_ROOT_VARIABLE = "BENCH_DATA_ROOT"
DEFAULT_DATA_ROOT = Path("data")
SYNTHETIC = "synthetic"
"""Folder of the stand-ins below the data root, or below the cache."""


def data_root(given: Path | None = None) -> Path:
    """The folder in which data sets are looked for: ``given``, else ``BENCH_DATA_ROOT``, else ``./data``."""
    if given is not None:
        return Path(given).expanduser()
    return Path(os.environ.get(DATA_ROOT_VARIABLE) or DEFAULT_DATA_ROOT).expanduser()


_data_root = data_root  # for functions that have a parameter of that name


def real_folder(card: Card, root: Path) -> Path | None:
    """Where the real files of a data set lie under ``root``, or None if they are not there.

    A folder that unpacking put around them (:func:`bench.data.folders.unwrapped`) is passed through.
    """
    found = next((folder for folder in _candidates(card, root) if folder.is_dir()), None)
    return None if found is None else unwrapped(found, card.folders)


def expected_folder(card: Card, root: Path) -> Path:
    """Where the real files of a data set lie under ``root``, or should."""
    return real_folder(card, root) or root / card.folders[0]


def _candidates(card: Card, root: Path) -> list[Path]:
    """Where the real files may lie: under the data root, or the data root itself if it has such a name."""
    inside = [root / folder for folder in card.folders]
    return [*inside, root] if root.resolve().name in card.folders else inside


class Split(Sequence[Sample]):
    """Some images of a data set, in the order of their ids, each read when it is asked for.

    It is a :class:`bench.task.SampleSource`.

    Attributes:
        name: how the split is addressed.
    """

    def __init__(self, name: str, reader: Reader, entries: Sequence[Entry], groups: Mapping[str, str | None]) -> None:
        self.name = name
        self._reader = reader
        self._entries = tuple(entries)
        self._groups = groups

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids in order."""
        return tuple(entry.id for entry in self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is known of each image before it is read: its file, the files of its truth, its group."""
        return self._entries

    @property
    def groups(self) -> dict[str, str | None]:
        """Image id -> the sequence, donor or slide it comes from, in the order of the ids."""
        return {i: self._groups[i] for i in self.ids}

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # a slice of a split is limit() or take()
        entry = self._entries[index]
        image = self._reader.image(entry)
        truth = self._reader.truth(entry, *image.shape[:2])
        meta: dict[str, Any] = {"path": str(entry.image)}
        if truth.notes:
            meta["notes"] = truth.notes
        return Sample(entry.id, image, truth.instances, self._groups[entry.id], meta)

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {len(self)} images)"

    def limit(self, count: int | None, seed: int = 0) -> Split:
        """At most ``count`` of its images, chosen by ``seed``; None keeps all.

        The images chosen for a smaller count are among those for a larger one.
        """
        if count is None or count >= len(self):
            return self
        return self.take(splits.seeded_subset(self.ids, count, seed))

    def take(self, ids: Sequence[str]) -> Split:
        """Only the images with these ids, in the order of the split.

        Raises:
            UnknownNameError: an id that is not in the split.
        """
        wanted = set(ids)
        if unknown := wanted - set(self.ids):
            raise UnknownNameError(f"image of split {self.name}", min(unknown), self.ids)
        return Split(self.name, self._reader, [e for e in self._entries if e.id in wanted], self._groups)


@dataclass(frozen=True)
class Source:
    """The files that a card was opened on."""

    kind: Literal["real", "synthetic"]
    folder: Path
    format: Mapping[str, Any]


@dataclass(frozen=True)
class UnmadeStandIn:
    """A stand-in that :func:`open_dataset` would generate first.

    Attributes:
        card: of the data set.
        folder: where it would lie, if that can be written.
        images: how many it would have, of all splits.
    """

    card: Card
    folder: Path
    images: int

    @property
    def said(self) -> str:
        """For the user, after the name of the data set."""
        return f"the stand-in is generated first: {self.images} images, in {self.folder}"


class Dataset:
    """A card opened on files. Made by :func:`open_dataset`.

    Attributes:
        card: see :class:`bench.data.cards.Card`; with the classes, where the files name them.
        source: ``real`` files, or the ``synthetic`` stand-in.
        folder: where the files lie.
        notes: what was left out of the files, with the reason, a line each.
    """

    def __init__(
        self, card: Card, source: Source, reader: Reader, index: Index, facts: Sequence[ImageFacts], cache: Path | None
    ) -> None:
        task = msgspec.structs.replace(card.task, classes=reader.classes)
        self.card: Card = msgspec.structs.replace(card, task=task)
        self.source = source.kind
        self.folder = source.folder
        self._reader = reader
        self._entries = {entry.id: entry for entry in index.entries}
        self._facts = {fact.id: fact for fact in facts}
        self._cache = cache
        self._members, missing = members(card, index)
        self.notes = (*index.notes, *missing, *(note for fact in facts for note in fact.notes))

    def __repr__(self) -> str:
        return f"Dataset({self.card.name!r}, {self.source}, {len(self._entries)} images, {str(self.folder)!r})"

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Every split that the card names, empty ones included."""
        return self.card.split_names

    def split(self, name: str | None = None) -> Split:
        """A split by its name; None is the one that the card evaluates on.

        Raises:
            UnknownNameError: there is none of that name.
            DataError: it has no image in these files.
        """
        name = name or self.card.evaluate
        scheme, plain = self.card.address(name)
        ids = self._members[scheme][plain]
        if not ids:
            filled = [n for n in self.split_names if self.ids_of(n)]
            parts = sorted({entry.part for entry in self._entries.values() if entry.part})
            raise DataError(
                f"{self.folder}: the split {name!r} of {self.card.name} has no image there",
                f"splits with images: {', '.join(filled) or 'none'}"
                + (f"; the files have the parts {', '.join(parts)}" if parts and not filled else ""),
            )
        groups = {i: self._entries[i].group for i in ids}
        return Split(name, self._reader, [self._entries[i] for i in ids], groups)

    def training_splits(self, evaluated: str | None = None) -> tuple[Split | None, Split | None]:
        """The splits ``train`` and ``val`` of the scheme that ``evaluated`` belongs to; None where it has none.

        A method that is evaluated on a split must be trained on these and no other: another scheme's training
        split may hold the images it is evaluated on.

        Raises:
            UnknownNameError: no such split.
        """
        train, val = (None if n is None else self.split(n) for n in self.training_names(evaluated))
        return train, val

    def training_names(self, evaluated: str | None = None) -> tuple[str | None, str | None]:
        """The names of :meth:`training_splits`.

        Raises:
            UnknownNameError: no such split.
        """
        scheme, _ = self.card.address(evaluated or self.card.evaluate)
        prefix = "" if scheme == self.card.default_scheme else f"{scheme}/"
        train, val = (f"{prefix}{n}" if self._members[scheme].get(n) else None for n in ("train", "val"))
        return train, val

    def everything(self) -> Split:
        """All images, in whichever split they are or in none."""
        entries = [self._entries[i] for i in sorted(self._entries)]
        return Split("everything", self._reader, entries, {e.id: e.group for e in entries})

    def ids_of(self, name: str) -> tuple[str, ...]:
        """The images of a split, none if it has none.

        Raises:
            UnknownNameError: no such split.
        """
        scheme, plain = self.card.address(name)
        return self._members[scheme][plain]

    @property
    def is_prepared(self) -> bool:
        """Whether the files are in the compact form of :mod:`bench.data.prepare`."""
        return self._reader.format == PREPARED

    @cached_property
    def outdated(self) -> str | None:
        """That the files which were prepared have changed since, and what to do; None where they have not, or are gone.

        Raises:
            DataError: the index of the prepared form cannot be read.
        """
        if not self.is_prepared:
            return None
        index = read_index(self.folder)
        if index.origin is None or not index.origin.has_changed(self.folder.parent.parent):
            return None
        root, files = self.folder.parent.parent, Path(index.origin.folder)
        command = ["bench", "data", "prepare", self.card.name, "--again"]
        if index.without_duplicates:
            command += ["--drop-duplicates"]
        if files.resolve() != expected_folder(self.card, root).resolve():
            command += ["--from", str(files)]
        if root.resolve() != data_root().resolve():
            command += ["--data-root", str(root)]
        return f"the files in {files} changed after they were prepared: {shlex.join(command)}"

    def images(self) -> tuple[ImageRecord, ...]:
        """Every image of this version, by id."""
        return tuple(
            ImageRecord(f.id, f.pixels, f.height, f.width, f.instances or 0, self._entries[f.id].group)
            for _, f in sorted(self._facts.items())
        )

    def duplicates(self) -> tuple[tuple[str, ...], ...]:
        """Images with the same pixels, as groups of ids, sorted."""
        by_pixels: dict[str, list[str]] = {}
        for fact in self._facts.values():
            by_pixels.setdefault(fact.pixels, []).append(fact.id)
        return tuple(sorted(tuple(sorted(ids)) for ids in by_pixels.values() if len(ids) > 1))

    def shared(self, name: str, other: str) -> tuple[str, ...]:
        """Images of one split that another has as well, by their ids or by their pixels; sorted ids.

        Args:
            name: of a split, whose images these are.
            other: of another.
        """
        there = set(self.ids_of(other))
        alike = {image for ids in self.duplicates() if there.intersection(ids) for image in ids}
        return tuple(sorted((there | alike).intersection(self.ids_of(name))))

    @cached_property
    def task(self) -> Task:
        """What is asked of a method. Object sizes are the card's for real files, else measured on ``train``."""
        table = self.card.task
        typical, _ = Counter((fact.height, fact.width) for fact in self._facts.values()).most_common(1)[0]
        return Task(table.classes, table.modality, table.max_detections, self._objects, table.overlap, typical)

    @cached_property
    def content_hash(self) -> str:
        """Identity of this version, 64 hexadecimal digits.

        sha256 over, as canonical JSON: the task with its object sizes; each image by id with the hash of its
        pixels, of its truth, and its group; and the members of every split, of the schemes that have any. It does
        not depend on where the files lie, nor on how they are encoded.
        """
        objects = None if self._objects is None else vars(self._objects)
        content = {
            "source": self.source,
            "task": msgspec.to_builtins(self.card.task),
            "objects": objects,
            "images": [[f.id, f.pixels, f.truth, self._entries[i].group] for i, f in sorted(self._facts.items())],
            "splits": {scheme: of for scheme, of in self._members.items() if any(of.values())},
        }
        return hashlib.sha256(_canonical(content)).hexdigest()

    @property
    def version(self) -> DatasetVersionRecord:
        """The version as the store keeps it."""
        return DatasetVersionRecord(
            name=self.card.name,
            content_hash=self.content_hash,
            source=self.source,
            title=self.card.title,
            licence=self.card.licence if self.source == "real" else "generated by this project",
            n_images=len(self._entries),
            n_instances=sum(f.instances or 0 for f in self._facts.values()),
            classes=self.card.task.classes,
            protocols=tuple(p.name for p in self.card.protocols),
            card=self.card.plain(),
        )

    # -- inside ----------------------------------------------------------------------------------------

    @cached_property
    def _objects(self) -> ObjectStatistics | None:
        if self.source == "real" and isinstance(self.card.objects, ObjectsTable):
            return self.card.objects.statistics()
        train, _ = self.training_splits()
        ids = self.ids_of(self.card.evaluate) if train is None else train.ids
        key = hashlib.sha256(_canonical([[i, self._facts[i].truth] for i in ids])).hexdigest()[:32]
        file = None if self._cache is None else self._cache / "objects" / f"{key}.json"
        return _measured(file, self._reader, [(self._entries[i], self._facts[i]) for i in ids])


def open_dataset(
    name: str,
    data_root: Path | None = None,
    *,
    stand_in: bool | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    drop_duplicates: bool = False,
    broken: dict[str, BenchError] | None = None,
) -> Dataset:
    """Open a data set on the real files if they are there, else on its stand-in.

    The real files are looked for in their prepared form (:mod:`bench.data.prepare`), then in the folders that the
    card names, under the data root, or in the data root itself if it has such a name. A stand-in is generated at its
    first use, under ``<data root>/synthetic`` (or the cache, where the data root cannot be written).

    Args:
        name: of a card.
        data_root: default ``$BENCH_DATA_ROOT``, else ``./data``.
        stand_in: True for the stand-in even if real files are there, False for real files only.
        cache: folder for file hashes; default the user's cache.
        progress: called as ``progress(done, total, text)`` while files are generated or read for the first time.
        drop_duplicates: keep one of several images with the same pixels: the one that the card evaluates on, else
            that of the split ``val``, else the first by id. What is left is another version of the data set.
        broken: if given, an image that cannot be read is left out and put here, with what is wrong, instead of being
            raised. What is left is another version of the data set.

    Raises:
        UnknownNameError: no such card.
        DataError: a broken card or file, or no files and no stand-in.
        OutputError: the stand-in cannot be written.
    """
    card = load_card(name)
    root = _checked_root(card, data_root, stand_in)
    cache = default_cache() if cache is None else Path(cache)
    with readable():
        found = _source(card, root, stand_in, cache)
    source = found or _generated(card, root, cache, progress)
    reader = open_reader(dict(source.format), card.path, source.folder, card.task.classes)
    with readable():
        index = reader.index()
    card.check_classes(reader.classes, source.folder)
    facts = scan(reader, index.entries, facts_file(card, source, cache), progress, broken)
    if broken:
        index = _without(index, broken)
        if not index.entries:
            raise DataError(f"{source.folder}: no image can be read; the first: {next(iter(broken.values())).message}")
    if drop_duplicates:
        index, facts = _without_duplicates(card, index, facts)
    return Dataset(card, source, reader, index, facts, cache)


@readable()
def unmade_stand_in(
    name: str, data_root: Path | None = None, *, stand_in: bool | None = None, cache: Path | None = None
) -> UnmadeStandIn | None:
    """The stand-in that :func:`open_dataset` would have to generate, or None where the files are there.

    Nothing is read but the card, and nothing written. Arguments and errors are those of :func:`open_dataset`.
    """
    card = load_card(name)
    root = _checked_root(card, data_root, stand_in)
    if _source(card, root, stand_in, default_cache() if cache is None else Path(cache)) is not None:
        return None
    assert card.stand_in is not None
    made_by = card.stand_in
    generator = synthetic.make_generator(made_by.generator, made_by.seed, made_by.params, card.path)
    return UnmadeStandIn(card, root / SYNTHETIC / synthetic.folder_name(card, generator), len(generator.plan()))


def facts_file(card: Card, source: Source, cache: Path) -> Path:
    """Where what is known of the images of a source is kept; see :mod:`bench.data.scan`."""
    if source.format["name"] == PREPARED:
        return source.folder / FACTS
    identity = [str(source.folder.resolve()), dict(source.format), card.task.classes]
    if code := code_of(reader_class(source.format["name"])):
        identity.append(code)
    key = hashlib.sha256(_canonical(identity)).hexdigest()[:16]
    return cache / "scans" / f"{card.name}-{key}.msgpack"


def real_source(card: Card, root: Path) -> Source | None:
    """The real files of a data set under a data root, prepared ones first, or None if they are not there."""
    if is_prepared(card, root):
        return Source("real", prepared_folder(card, root), {"name": PREPARED})
    found = real_folder(card, root)
    return None if found is None else Source("real", found, card.format)


def _checked_root(card: Card, data_root: Path | None, stand_in: bool | None) -> Path:
    root = _data_root(data_root)
    if data_root is not None and stand_in is None and card.stand_in is not None and not root.is_dir():
        what = "there is no such folder" if not root.exists() else "that is no folder"
        raise UsageError(f"--data-root {root}: {what}", "name the one in which data sets lie, or say --stand-in")
    return root


def _source(card: Card, root: Path, stand_in: bool | None, cache: Path) -> Source | None:
    """The files to open, or None where a stand-in must be generated first.

    Raises:
        DataError: no files, and no stand-in that may take their place.
    """
    if stand_in is not True and (real := real_source(card, root)) is not None:
        return real
    if stand_in is False or card.stand_in is None:
        looked = ", ".join(str(c) for c in _candidates(card, root))
        what = "no stand-in exists for it" if card.stand_in is None else "real images are asked for"
        raise DataError(
            f"the files of {card.name} are not there (looked for {looked}), and {what}",
            f"get them from {card.url} and put or link them at {root / card.folders[0]}, "
            "or name their parent by --data-root",
        )
    folder = synthetic.made(card, root / SYNTHETIC, cache / SYNTHETIC)
    return None if folder is None else Source("synthetic", folder, synthetic.format_of(card))


def _generated(card: Card, root: Path, cache: Path, progress: Progress | None) -> Source:
    folder, table = synthetic.ensure(card, root / SYNTHETIC, cache / SYNTHETIC, progress)
    return Source("synthetic", folder, table)


def _without(index: Index, broken: Mapping[str, BenchError]) -> Index:
    notes = (f"{image}: cannot be read, left out: {error.message}" for image, error in broken.items())
    return Index(tuple(e for e in index.entries if e.id not in broken), (*index.notes, *notes))


def _without_duplicates(card: Card, index: Index, facts: Sequence[ImageFacts]) -> tuple[Index, tuple[ImageFacts, ...]]:
    dropped = superfluous(card, index, {fact.id: fact.pixels for fact in facts})
    notes = sorted(f"{i}: the same image as {same}, left out" for i, same in dropped.items())
    entries = tuple(e for e in index.entries if e.id not in dropped)
    return Index(entries, (*index.notes, *notes)), tuple(f for f in facts if f.id not in dropped)


def _measured(file: Path | None, reader: Reader, images: Sequence[tuple[Entry, ImageFacts]]) -> ObjectStatistics | None:
    if file is not None and file.is_file():
        with contextlib.suppress(OSError, msgspec.DecodeError):  # not ours or cut off: measure again
            return msgspec.json.decode(file.read_bytes(), type=ObjectStatistics | None)
    truths = (reader.truth(entry, fact.height, fact.width).instances for entry, fact in images)
    statistics = ObjectStatistics.measure(t for t in truths if t is not None)
    if file is not None:
        with contextlib.suppress(OutputError):  # a cache that cannot be written costs time, not results
            write_whole(file, msgspec.json.encode(statistics))
    return statistics


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
