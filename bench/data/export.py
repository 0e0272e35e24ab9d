"""A split, or predictions for it, in formats that other tools read, as one folder that is there whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench import rle
from bench.data.cards import Card
from bench.data.dataset import Dataset, Split
from bench.data.kaggle_rle import Order
from bench.data.readers import make_options
from bench.data.readers.kaggle_csv import KaggleCsv
from bench.data.scan import Progress
from bench.data.system import write_whole
from bench.data.writers import (
    Annotated,
    from_samples,
    write_coco,
    write_coco_results,
    write_ctc_results,
    write_kaggle,
    write_label_images,
)
from bench.errors import OutputError, UsageError
from bench.instances import Instances, Sample

_Read = Callable[[Split], Iterator[Annotated]]
"""What is written for the images of a split."""

Format = Literal["coco", "label-tiffs", "ctc", "kaggle"]
FORMATS: tuple[Format, ...] = ("coco", "label-tiffs", "ctc", "kaggle")

_TRUTH_COLUMNS: dict[Order, tuple[str, str]] = {"row": ("id", "annotation"), "column": ("ImageId", "EncodedPixels")}
_SUBMITTED_COLUMNS: dict[Order, tuple[str, str]] = {"row": ("id", "predicted"), "column": ("ImageId", "EncodedPixels")}
"""Order of the pixels -> names of the columns in the competition that counts so, for truth and for predictions."""


_SEQUENCE = re.compile(r"\d{2}")
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
_HIGHEST_FRAME = 99_999


PROVENANCE = "provenance.json"
"""Beside the exported files, in every format: what they are and where they are from."""


def provenance(dataset: Dataset, split: Split) -> dict[str, Any]:
    """What exported files are of, for whoever finds them later: above all, whether the images are real."""
    card, version = dataset.card, dataset.version
    generated = dataset.source == "synthetic"
    what = "Generated images, a stand-in for" if generated else "Truth of"
    said = " They are no microscopy: numbers on them say nothing about real cells." if generated else ""
    return {
        "description": f"{what} {card.title}, split {split.name}.{said}",
        "source": dataset.source,
        "dataset": card.name,
        "dataset_version": version.content_hash,
        "split": split.name,
        "licence": version.licence,
        "contributor": "cellseg-bench" if generated else card.citation,
        "url": "" if generated else card.url,
        "version": f"cellseg-bench {metadata.version('cellseg-bench')}",
    }


@dataclass(frozen=True)
class Exported:
    """What was written: where, how many images and instances, and what the format could not hold, a line each."""

    folder: Path
    images: int
    instances: int
    notes: tuple[str, ...]


def refuse_unused(form: Format, overlap: str | None, order: Order | None, *, predictions: bool) -> None:
    """Raise where a choice that the user made decides nothing in a format.

    Args:
        form: one of :data:`FORMATS`.
        overlap: the policy that was asked for, or None.
        order: of the pixels that was asked for, or None.
        predictions: whether predictions are written, not truth: submissions to Kaggle must not overlap, truth may.

    Raises:
        UsageError: it decides nothing.
    """
    if order is not None and form != "kaggle":
        raise UsageError(f"--rle {order} decides nothing in {form}", "it says how a Kaggle table counts; leave it out")
    if overlap is not None and (form == "coco" or (form == "kaggle" and not predictions)):
        what = form if form == "coco" else "a table of truth"
        raise UsageError(f"--overlap {overlap} decides nothing: {what} holds overlaps as they are", "leave it out")


def export(
    dataset: Dataset,
    split: Split,
    form: Format,
    folder: Path,
    *,
    overlap: str = "forbid",
    order: Order | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the truth of a split, with :func:`provenance` in ``provenance.json`` and in the ``info`` of COCO.

    ``coco``: ``annotations.json``. ``label-tiffs``: ``<id>.tif``, 16 bit, and ``classes.csv`` where there are several
    classes. ``ctc``: ``<sequence>_RES`` with ``maskNNN.tif`` and ``res_track.txt``, and ``frames.csv``, which says
    which image a frame is; images of one group are a sequence. ``kaggle``: ``masks.csv``, where the card reads such
    tables with the columns that it reads.

    Args:
        dataset: of the split.
        split: whose images are annotated.
        form: one of :data:`FORMATS`.
        folder: made; must not be there, or be empty.
        overlap: what becomes of overlaps in the formats that cannot hold them (label-tiffs and ctc), a name in
            :data:`bench.instances.OVERLAP_POLICIES`.
        order: of the pixels, for kaggle; None is the one by which the card reads such tables.
        progress: called as ``progress(done, total, text)``.

    Raises:
        UsageError: the folder holds something, or nothing says the order for kaggle.
        DataError: an image that is not annotated, or instances that the format cannot hold.
        OutputError: a file cannot be written.
    """
    own = _own_table(dataset.card)
    order = _order(form, order, own)
    classes, made_of = dataset.task.classes, provenance(dataset, split)
    tally = _Tally(len(split), progress)
    with _new(folder, made_of) as staging:
        if form == "coco":
            write_coco(staging / "annotations.json", tally.count(from_samples(split, dataset.folder)), classes, made_of)
        elif form == "label-tiffs":
            _label_tiffs(staging, split, from_samples, classes, overlap, tally)
        elif form == "ctc":
            _ctc(staging, split, from_samples, overlap, tally)
        else:
            images = tally.flat(from_samples(split), None)
            write_kaggle(staging / "masks.csv", images, order, policy=None, **_truth_columns(own, order, classes))
    if form == "kaggle" and own is not None and own.order != order:
        tally.notes.append(f"{dataset.card.name} itself reads tables that count pixels along each {own.order}")
    with_classes = form == "kaggle" and own is not None and own.order == order and own.class_column is not None
    if form in ("ctc", "kaggle") and len(classes) > 1 and not with_classes:
        tally.notes.append("the format has no classes: the files do not say of which class an instance is")
    return Exported(folder, tally.images, tally.instances, tuple(tally.told()))


def export_predictions(
    dataset: Dataset,
    split: Split,
    predictions: Mapping[str, Instances],
    form: Format,
    folder: Path,
    *,
    made_by: Mapping[str, Any],
    overlap: str = "forbid",
    order: Order | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write predictions, in the forms in which ``bench submit`` and ``bench score`` take them.

    ``coco``: ``results.json`` with scores, and ``annotations.json`` with the truth of the same images, by the same ids,
    and the names of the classes. The other formats are those of :func:`export` and hold no scores; in ``kaggle``,
    ``masks.csv`` has the columns of a submission.

    Args:
        dataset: that was predicted.
        split: its images that were predicted.
        predictions: id of an image -> what was found in it.
        form: one of :data:`FORMATS`.
        folder: made; must not be there, or be empty.
        made_by: what made them: ``description`` and whatever else ``provenance.json`` is to say of it.
        overlap: what becomes of overlaps in all formats but COCO, a name in
            :data:`bench.instances.OVERLAP_POLICIES`.
        order: of the pixels, for kaggle; None is the one by which the card reads such tables.
        progress: called as ``progress(done, total, text)``.

    Raises:
        UsageError: the folder holds something, or nothing says the order for kaggle.
        DataError: instances that the format cannot hold.
        OutputError: a file cannot be written.
    """
    order = _order(form, order, _own_table(dataset.card))
    classes, made_of = dataset.task.classes, {**provenance(dataset, split), **made_by}
    tally = _Tally(len(split), progress)

    def read(images: Split) -> Iterator[Annotated]:
        return (Annotated(e.id, predictions[e.id], group=images.groups[e.id]) for e in images.entries)

    own_boxes = any(not np.array_equal(p.boxes, rle.boxes(p.rles, *p.shape)) for p in predictions.values())
    with _new(folder, made_of) as staging:
        if form == "coco":
            truth = _truth_if_any(split, dataset, tally)
            own_ids = {image: image for image in split.ids}  # numbers might be those of other images elsewhere
            write_coco(staging / "annotations.json", truth, classes, provenance(dataset, split), own_ids)
            write_coco_results(staging / "results.json", tally.count(read(split)), boxes=own_boxes)
        elif form == "label-tiffs":
            _label_tiffs(staging, split, read, classes, overlap, tally)
        elif form == "ctc":
            _ctc(staging, split, read, overlap, tally)
        else:
            id_column, mask_column = _SUBMITTED_COLUMNS[order]
            images = tally.flat(read(split), overlap)
            write_kaggle(
                staging / "masks.csv", images, order, id_column=id_column, mask_column=mask_column, policy=overlap
            )
    if form == "coco":
        if empty := sum(not len(predictions[image]) for image in split.ids):
            tally.notes.append(f"nothing was found in {empty} images: submit results.json with --missing-is-empty")
        if len(classes) > 1:
            tally.notes.append("annotations.json names the classes: submit results.json with it as --images")
        if own_boxes:
            tally.notes.append("boxes are the method's own: pycocotools takes their areas for those of the masks")
        return Exported(folder, tally.images, tally.instances, tuple(tally.told()))
    if any(p.scores is not None for p in predictions.values()):
        tally.notes.append("the format has no scores: these files have no average precision")
    if own_boxes:
        tally.notes.append("the format has no boxes: those of the method are left out")
    if form in ("ctc", "kaggle") and len(classes) > 1:
        tally.notes.append("the format has no classes: the files do not say of which class an instance is")
    return Exported(folder, tally.images, tally.instances, tuple(tally.told()))


@contextlib.contextmanager
def _new(folder: Path, made_of: Mapping[str, Any]) -> Iterator[Path]:
    """A folder to write to, which becomes ``folder`` at the end and leaves nothing behind if that fails.

    Raises:
        UsageError: there is something in ``folder``.
        OutputError: it cannot be made.
    """
    try:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise UsageError(f"{folder}: there is something already", "name a folder that is new or empty")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be read: {error.strerror}", "name another folder") from None
    staging = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        yield staging
        write_whole(staging / PROVENANCE, (json.dumps(made_of, indent=2, ensure_ascii=False) + "\n").encode())
        _put(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


# -- Kaggle tables -------------------------------------------------------------------------------------


def _own_table(card: Card) -> KaggleCsv.Options | None:
    """How a card reads the table of its competition, or None where it reads none."""
    _, options = make_options(card.format, card.path)
    return options if isinstance(options, KaggleCsv.Options) else None


def _order(form: Format, order: Order | None, own: KaggleCsv.Options | None) -> Order:
    """How pixels are counted.

    Raises:
        UsageError: a table is wanted, and nothing says how.
    """
    if form == "kaggle" and order is None and own is None:
        raise UsageError("a Kaggle table counts pixels along rows or along columns", "say --rle row or --rle column")
    return order or (own.order if own is not None else "row")


def _truth_columns(own: KaggleCsv.Options | None, order: Order, classes: Sequence[str]) -> dict[str, Any]:
    """The columns of truth for :func:`write_kaggle`: those that the card reads, if it reads this order."""
    if own is None or own.order != order:
        id_column, mask_column = _TRUTH_COLUMNS[order]
        return {"id_column": id_column, "mask_column": mask_column}
    return {
        "id_column": own.id,
        "mask_column": own.mask,
        "class_column": own.class_column,
        "height_column": own.height,
        "width_column": own.width,
        "group_column": own.group,
        "classes": classes,
    }


def _truth_if_any(split: Split, dataset: Dataset, tally: _Tally) -> Iterator[Annotated]:
    """The truth of a split, with no instance for images that are not annotated.

    Images go by their files, or by their ids where several files of the data set have one name.
    """
    without = 0
    names = [entry.image.name for entry in dataset.everything().entries]
    by_file = len(set(names)) == len(names)

    def samples() -> Iterator[Sample]:
        nonlocal without
        for sample in split:
            without += sample.instances is None
            yield replace(sample, instances=Instances.empty(*sample.shape)) if sample.instances is None else sample

    for image in tally.watch(from_samples(samples(), dataset.folder)):
        yield image if by_file else replace(image, file="")
    if without:
        tally.notes.append(f"{without} images are not annotated: annotations.json has no truth for them")


# -- what becomes of the rest --------------------------------------------------------------------------


class _Tally:
    """Counts what goes by, and what a format cannot hold."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.images = self.instances = 0
        self.notes: list[str] = []
        self._total, self._progress = total, progress
        self._crowds = self._without_pixels = self._overlapping = self._pixels = self._vanished = 0

    def count(self, images: Iterator[Annotated]) -> Iterator[Annotated]:
        """The same images."""
        for image in self.watch(images):
            self.images += 1
            self.instances += len(image.instances)
            yield image

    def watch(self, images: Iterator[Annotated]) -> Iterator[Annotated]:
        """The same images, not counted; only how far they are is told."""
        for done, image in enumerate(images, 1):
            yield image
            if self._progress:
                self._progress(done, self._total, "writing")

    def flat(self, images: Iterator[Annotated], overlap: str | None) -> Iterator[Annotated]:
        """The same without crowd regions and what has no pixel.

        ``overlap`` is the policy by which a writer resolves overlaps, if it does.
        """
        for image in self.count(images):
            its = image.instances
            if its.crowd.any():
                self._crowds += int(its.crowd.sum())
                its = its.take(~its.crowd)
            if (empty := its.areas == 0).any():
                self._without_pixels += int(empty.sum())
                its = its.take(~empty)
            if overlap not in (None, "forbid"):
                self._compare(its, its.without_overlap(overlap))
            yield replace(image, instances=its)

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
        if self._without_pixels:
            told.append(f"{self._without_pixels} instances without a pixel are left out: only COCO holds such")
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


def _label_tiffs(folder: Path, split: Split, read: _Read, classes: Sequence[str], overlap: str, tally: _Tally) -> None:
    rows: list[tuple[object, ...]] = [("image", "label", "class")]

    def images() -> Iterator[Annotated]:
        for image in tally.flat(read(split), overlap):
            rows.extend((image.id, i, classes[c]) for i, c in enumerate(image.instances.class_ids.tolist(), 1))
            yield image

    write_label_images(folder, images(), overlap)
    if len(classes) > 1:
        write_whole(folder / "classes.csv", _table(rows))


def _ctc(folder: Path, split: Split, read: _Read, overlap: str, tally: _Tally) -> None:
    rows: list[tuple[object, ...]] = [("file", "image")]
    for sequence, its in _sequences(split).items():
        digits = max(3, len(str(max(its.values()))))
        images = tally.flat(read(split.take(list(its))), overlap)
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
