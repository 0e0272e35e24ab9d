"""A split in the formats that other tools read, as one folder that is there whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.data.dataset import Split
from bench.data.kaggle_rle import Order
from bench.data.scan import Progress
from bench.data.system import write_whole
from bench.data.writers import (
    Annotated,
    from_samples,
    write_coco,
    write_ctc_results,
    write_kaggle,
    write_label_images,
)
from bench.errors import OutputError, UsageError
from bench.instances import Instances

Format = Literal["coco", "label-tiffs", "ctc", "kaggle"]
FORMATS: tuple[Format, ...] = ("coco", "label-tiffs", "ctc", "kaggle")

_COLUMNS = {"row": ("id", "annotation"), "column": ("ImageId", "EncodedPixels")}
"""Order of the pixels -> names of the columns in the competition that counts so."""


_SEQUENCE = re.compile(r"\d{2}")
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
_HIGHEST_FRAME = 99_999


@dataclass(frozen=True)
class Exported:
    """What was written: where, how many images and instances, and what the format could not hold, a line each."""

    folder: Path
    images: int
    instances: int
    notes: tuple[str, ...]


def export(
    split: Split,
    classes: Sequence[str],
    form: Format,
    folder: Path,
    *,
    overlap: str = "forbid",
    order: Order | None = None,
    relative_to: Path | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the truth of a split.

    ``coco``: ``annotations.json``. ``label-tiffs``: ``<id>.tif``, 16 bit, and ``classes.csv`` where there are several
    classes. ``ctc``: ``<sequence>_RES`` with ``maskNNN.tif`` and ``res_track.txt``, and ``frames.csv``, which says
    which image a frame is; images of one group are a sequence. ``kaggle``: ``masks.csv``.

    Args:
        split: whose images are annotated.
        classes: their names.
        form: one of :data:`FORMATS`.
        folder: made; must not be there, or be empty.
        overlap: what becomes of overlaps in the formats that cannot hold them (label-tiffs and ctc), a name in
            :data:`bench.instances.OVERLAP_POLICIES`.
        order: of the pixels, for kaggle.
        relative_to: file names of images are given relative to this folder.
        progress: called as ``progress(done, total, text)``.

    Raises:
        UsageError: the folder holds something, or no order is given for kaggle.
        DataError: an image that is not annotated, or instances that the format cannot hold.
        OutputError: a file cannot be written.
    """
    if form == "kaggle" and order is None:
        raise UsageError("a Kaggle table counts pixels along rows or along columns", "say --rle row or --rle column")
    try:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise UsageError(f"{folder}: there is something already", "name a folder that is new or empty")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be read: {error.strerror}", "name another folder") from None
    staging = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    tally = _Tally(len(split), progress)
    try:
        if form == "coco":
            write_coco(staging / "annotations.json", tally.count(from_samples(split, relative_to)), classes)
        elif form == "label-tiffs":
            _label_tiffs(staging, split, classes, overlap, tally)
        elif form == "ctc":
            _ctc(staging, split, overlap, tally)
        else:
            assert order is not None
            id_column, mask_column = _COLUMNS[order]
            images = tally.flat(from_samples(split), None)
            write_kaggle(
                staging / "masks.csv", images, order, id_column=id_column, mask_column=mask_column, policy=None
            )
        _put(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if form in ("ctc", "kaggle") and len(classes) > 1:
        tally.notes.append("the format has no classes: the files do not say of which class an instance is")
    return Exported(folder, tally.images, tally.instances, tuple(tally.told()))


class _Tally:
    """Counts what goes by, and what a format cannot hold."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.images = self.instances = 0
        self.notes: list[str] = []
        self._total, self._progress = total, progress
        self._crowds = self._overlapping = self._pixels = self._vanished = 0

    def count(self, images: Iterator[Annotated]) -> Iterator[Annotated]:
        """The same images."""
        for image in images:
            self.images += 1
            self.instances += len(image.instances)
            yield image
            if self._progress:
                self._progress(self.images, self._total, "writing")

    def flat(self, images: Iterator[Annotated], overlap: str | None) -> Iterator[Annotated]:
        """The same without crowd regions; ``overlap`` is the policy by which a writer resolves overlaps, if it does."""
        for image in self.count(images):
            its = image.instances
            if its.crowd.any():
                self._crowds += int(its.crowd.sum())
                its = its.take(~its.crowd)
            if overlap not in (None, "forbid"):
                self._compare(its, its.without_overlap(overlap))
            yield Annotated(image.id, its, image.file)

    def _compare(self, before: Instances, after: Instances) -> None:
        if lost := int(before.areas.sum()) - int(after.areas.sum()):
            self._overlapping += 1
            self._pixels += lost
            self._vanished += len(before) - len(after)

    def told(self) -> list[str]:
        """What was lost, a line each."""
        told = list(self.notes)
        if self._crowds:
            told.append(f"{self._crowds} crowd regions are left out: only COCO tells them from instances")
        if self._overlapping:
            gone = f", {self._vanished} instances vanished by it" if self._vanished else ""
            given = f"{self._pixels} pixels were given to one of them"
            told.append(f"instances overlap in {self._overlapping} images: {given}{gone}")
        return told


def _put(staging: Path, folder: Path) -> None:
    try:
        staging.replace(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}", "name another folder") from None


def _label_tiffs(folder: Path, split: Split, classes: Sequence[str], overlap: str, tally: _Tally) -> None:
    rows: list[tuple[object, ...]] = [("image", "label", "class")]

    def images() -> Iterator[Annotated]:
        for image in tally.flat(from_samples(split), overlap):
            rows.extend((image.id, i, classes[c]) for i, c in enumerate(image.instances.class_ids.tolist(), 1))
            yield image

    write_label_images(folder, images(), overlap)
    if len(classes) > 1:
        write_whole(folder / "classes.csv", _table(rows))


def _ctc(folder: Path, split: Split, overlap: str, tally: _Tally) -> None:
    rows: list[tuple[object, ...]] = [("file", "image")]
    for sequence, its in _sequences(split).items():
        digits = max(3, len(str(max(its.values()))))
        images = tally.flat(from_samples(split.take(list(its))), overlap)
        write_ctc_results(folder, sequence, ((its[image.id], image) for image in images), overlap, digits)
        rows += ((f"{sequence}_RES/mask{frame:0{digits}d}.tif", image) for image, frame in its.items())
    write_whole(folder / "frames.csv", _table(rows))


def _sequences(split: Split) -> dict[str, dict[str, int]]:
    """Name of a sequence -> id of an image -> number of its frame.

    A group is a sequence, named by its own name if that is a number as the challenge has them, else 01, 02, and so on;
    a frame has the last number of its image's id, or, where two had the same or one has none, its place in the group.
    """
    groups: dict[str, list[str]] = {}
    for image, group in split.groups.items():
        groups.setdefault(group or "", []).append(image)
    plain = all(_SEQUENCE.fullmatch(name) for name in groups)
    sequences = {}
    for number, (group, images) in enumerate(sorted(groups.items()), 1):
        found = [_LAST_NUMBER.search(image) for image in images]
        numbers = [int(match[0]) for match in found if match is not None]
        if len(set(numbers)) < len(images) or max(numbers) > _HIGHEST_FRAME:
            numbers = list(range(len(images)))
        sequences[group if plain else f"{number:02d}"] = dict(zip(images, numbers, strict=True))
    return sequences


def _table(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
