"""Prediction files that somebody brings, read against the images of a split.

What holds the masks is opened by the readers that ``bench score`` uses; this module finds which prediction is for
which image of a data set. An image is known by its id, by the name of its file, by its number in a COCO file that
lists the images, or by its sequence and frame number, in this order; the first way that fits any prediction must fit
them all.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec
import numpy as np

from bench.api import DataError, Instances, UsageError
from bench.data import Dataset, Split
from bench.data.images import IMAGE_SUFFIXES, read_labels
from bench.decoding import not_json, wrong_content
from bench.engine.file_pairs import last_number, prediction_file
from bench.metrics.files import CocoResults, read_bytes
from bench.metrics.matching import Masks
from bench.metrics.submission import KaggleSubmission

Name = int | str
"""What a file of predictions calls an image."""

Alias = TypeVar("Alias")


class _ListedImage(msgspec.Struct):
    id: int | str
    file_name: str = ""


class _ListedCategory(msgspec.Struct):
    id: int
    name: str = ""


class ImageList(msgspec.Struct):
    """The images and categories that a COCO file lists, without its annotations."""

    images: list[_ListedImage] | dict[str, _ListedImage] = []
    categories: list[_ListedCategory] | dict[str, _ListedCategory] = []

    @classmethod
    def read(cls, path: Path) -> ImageList:
        """Read one.

        Raises:
            DataError: no such file, not a COCO file, or two images of one id.
        """
        data = read_bytes(path)
        try:
            found = msgspec.json.decode(data, type=cls)
        except msgspec.ValidationError as error:
            raise DataError(f"{path}: not a COCO file that lists images: {wrong_content(error)}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            why, hint = not_json(error, data)
            raise DataError(f"{path}: not JSON: {why}", hint) from None
        seen: set[Name] = set()
        for image in found._listed():
            if image.id in seen:
                raise DataError(f"{path}: two images have the id {image.id}")
            seen.add(image.id)
        return found

    def _listed(self) -> Iterable[_ListedImage]:
        return self.images.values() if isinstance(self.images, dict) else self.images

    @property
    def file_names(self) -> dict[Name, str]:
        """Image id -> file name, of the images that have one."""
        return {image.id: image.file_name for image in self._listed() if image.file_name}

    @property
    def category_names(self) -> dict[int, str]:
        """Category id -> name."""
        listed = self.categories.values() if isinstance(self.categories, dict) else self.categories
        return {category.id: category.name for category in listed}


@dataclass(frozen=True)
class _Target:
    """An image of the data set, as predictions may call it."""

    id: str
    file: Path
    group: str | None
    inside: bool


class SubmittedPredictions:
    """The predictions in a file or a folder, for the images of a split.

    Args:
        path: COCO results JSON, a Kaggle submission CSV, or a folder of label images: one an image, in folders as
            deep as the ids need, or the ``01_RES`` of the Cell Tracking Challenge (or the folder that holds several).
        dataset: what was predicted.
        split: its images that are to be scored.
        rle: how a submission counts pixels, ``row`` or ``column``; default by its columns.
        listing: a COCO file that lists the images by the numbers that the predictions use.
        class_name: the class of every prediction, for formats that hold none.

    Attributes:
        scored: whether the predictions carry scores.
        missing: images of the split that are not in the files, in order.
        elsewhere: how many predictions are for images of the data set outside the split; they are left out.

    Raises:
        DataError: files that are broken, or of images that the data set does not have.
        UsageError: options that do not fit the files, or classes that nothing tells.
    """

    def __init__(
        self,
        path: Path,
        dataset: Dataset,
        split: Split,
        *,
        rle: str | None = None,
        listing: Path | None = None,
        class_name: str | None = None,
    ) -> None:
        self.path = path
        self._source = _open(path, rle)
        if rle is not None and not isinstance(self._source, _KaggleFile):
            raise UsageError(f"{path}: --rle is for a Kaggle submission, and this is none", "leave --rle out")
        self.scored = self._source.scored
        lists = self._lists(split, listing)
        self._class_id = self._source.set_classes(dataset.card.task.classes, class_name, lists)
        self._sizes = {image.key: (image.height, image.width) for image in dataset.images()}
        everything = dataset.everything()
        inside = set(split.ids)
        targets = [_Target(e.id, e.image, e.group, e.id in inside) for e in everything.entries]
        found = _matched(path, self._source, targets, lists)
        self._name_of = {id_: name for name, id_ in found.items() if id_ in inside}
        self.elsewhere = sum(id_ not in inside for id_ in found.values())
        self.missing = tuple(id_ for id_ in split.ids if id_ not in self._name_of)

    def __len__(self) -> int:
        return len(self._name_of)

    @property
    def files(self) -> Iterator[Path]:
        """Every file that is read."""
        return self._source.files(self._name_of.values())

    def read(self, image_id: str) -> Instances:
        """The predictions for an image of the split; none where it is :attr:`missing`.

        Raises:
            DataError: masks that do not describe the image; the message names the file.
        """
        height, width = self._sizes[image_id]
        if image_id not in self._name_of:
            return Instances.empty(height, width, scored=self.scored)
        name = self._name_of[image_id]
        masks = self._source.masks(name, height, width)
        if (masks.runs.height, masks.runs.width) != (height, width):
            raise DataError(
                f"{self._source.where(name)}: {masks.runs.height} x {masks.runs.width} pixels, "
                f"the image {image_id} is {height} x {width}",
                "predictions are scored at the image's own resolution",
            )
        found = masks.instances()
        classes = found.class_ids if self._class_id is None else np.full(len(found), self._class_id)
        return Instances(height, width, found.rles, classes, found.scores, found.boxes)

    def _lists(self, split: Split, listing: Path | None) -> list[ImageList]:
        """Whatever lists images by the numbers of the predictions, the surest first."""
        if not isinstance(self._source, _CocoFile):
            if listing is not None:
                raise UsageError(f"{self.path}: --images is for COCO results, and these are none", "leave --images out")
            return []
        if listing is not None:
            return [ImageList.read(listing)]
        own = [ImageList.read(self.path)] if self._source.lists_images else []
        truths = sorted({file for entry in split.entries for file in entry.truth if file.suffix.lower() == ".json"})
        return own + [ImageList.read(file) for file in truths]


# -- files of predictions ---------------------------------------------------------------------------------


class _Source(ABC):
    """An opened file or folder of predictions."""

    names: Sequence[Name]
    scored: bool = False
    by_frame: bool = False
    """Whether a name may end in the number of a frame instead of being an image's."""

    @abstractmethod
    def masks(self, name: Name, height: int, width: int) -> Masks: ...

    @abstractmethod
    def where(self, name: Name) -> Path:
        """The file that an image's predictions stand in."""

    @property
    @abstractmethod
    def path(self) -> Path: ...

    def set_classes(self, classes: Sequence[str], given: str | None, lists: Sequence[ImageList]) -> int | None:
        """The class of every prediction, or None where each has its own.

        Raises:
            UsageError: nothing tells the classes, or there is no such class.
        """
        if given is not None:
            if given not in classes:
                raise UsageError(
                    f"--class {given}: there is no class {given!r} in the data set",
                    f"its classes are {', '.join(classes)}",
                )
            return classes.index(given)
        if len(classes) == 1:
            return 0
        raise UsageError(
            f"{self.path}: it says no classes, and the data set has {len(classes)}: {', '.join(classes)}",
            "bring COCO results with a category_id, or say by --class which class all predictions are of",
        )

    def files(self, names: Iterable[Name]) -> Iterator[Path]:
        return iter(sorted({self.where(name) for name in names}))


class _CocoFile(_Source):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._results = CocoResults(path)
        self.scored = self._results.scored or not self._results.image_ids
        with path.open("rb") as file:
            self.lists_images = file.read(64).lstrip()[:1] == b"{"
        listed = list(ImageList.read(path).file_names) if self.lists_images else []
        self.names = list(dict.fromkeys([*self._results.image_ids, *listed]))
        self._with_results = set(self._results.image_ids)
        self._class_of: dict[int | None, int] | None = None

    @property
    def path(self) -> Path:
        return self._path

    def set_classes(self, classes: Sequence[str], given: str | None, lists: Sequence[ImageList]) -> int | None:
        """By the names of the categories where a list gives them, else by their order from 1."""
        if given is not None or len(classes) == 1 or not self._results.categories:
            return super().set_classes(classes, given, lists) if self._with_results else 0
        by_name = {name.lower(): index for index, name in enumerate(classes)}
        of: dict[int | None, int] = {}
        for listed in reversed(lists):
            of |= {id_: by_name[name.lower()] for id_, name in listed.category_names.items() if name.lower() in by_name}
        self._class_of = of or {number: number - 1 for number in range(1, len(classes) + 1)}
        return None

    def masks(self, name: Name, height: int, width: int) -> Masks:
        return self._results.masks(name if name in self._with_results else None, height, width, self._class_of)

    def where(self, name: Name) -> Path:
        return self._path


class _KaggleFile(_Source):
    def __init__(self, path: Path, order: str | None) -> None:
        self._path = path
        self._submission = KaggleSubmission(path, order)
        self.names = list(self._submission.image_ids)

    @property
    def path(self) -> Path:
        return self._path

    def masks(self, name: Name, height: int, width: int) -> Masks:
        return self._submission.masks(str(name), height, width)

    def where(self, name: Name) -> Path:
        return self._path


class _LabelFolder(_Source):
    by_frame = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._of: dict[str, Path] = {}
        try:
            found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        except OSError as error:
            raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
        if not found:
            raise DataError(f"{folder}: no label image in it", f"looked for {', '.join(IMAGE_SUFFIXES)}")
        for file in found:
            name = file.relative_to(folder).with_suffix("").as_posix()
            if any(part.startswith(".") for part in PurePosixPath(name).parts):
                continue
            if sequence := _RESULT_FOLDER.fullmatch(folder.name):
                name = f"{sequence[0]}/{name}"
            if name in self._of:
                raise DataError(
                    f"{folder}: both {self._of[name].name} and {file.name}", "one label image for each name"
                )
            self._of[name] = file
        self.names = list(self._of)

    @property
    def path(self) -> Path:
        return self._folder

    def masks(self, name: Name, height: int, width: int) -> Masks:
        path = self.where(name)
        try:
            return Masks.of(read_labels(path))
        except DataError as error:
            if error.message.startswith(str(path)):
                raise
            raise DataError(f"{path}: {error.message}", error.hint) from None

    def where(self, name: Name) -> Path:
        return self._of[str(name)]


_RESULT_FOLDER = re.compile(r"(\w+)_RES", re.IGNORECASE)
"""Folder of the results of a sequence of the Cell Tracking Challenge."""


def _open(path: Path, rle: str | None) -> _Source:
    if path.is_dir():
        return _LabelFolder(path)
    return _KaggleFile(path, rle) if prediction_file(path).suffix.lower() == ".csv" else _CocoFile(path)


# -- which prediction is for which image ------------------------------------------------------------------


def _matched(path: Path, source: _Source, targets: Sequence[_Target], lists: Sequence[ImageList]) -> dict[Name, str]:
    """Name in the files -> id of an image.

    Raises:
        DataError: a name that no image has, or two names for one image.
    """
    places: list[str | None] = []
    for way in _ways(targets, lists, source.by_frame):
        places = [way(name) for name in source.names]
        if any(place is not None for place in places):
            break
    taken: dict[str, Name] = {}
    for name, place in zip(source.names, places, strict=True):
        if place is None:
            known = [target.id for target in targets if target.inside]
            raise DataError(
                f"{path}: a prediction for image {name}, which the data set does not have",
                f"its images are called {', '.join(known[:3])}{', ...' if len(known) > 3 else ''}",
            )
        if place in taken:
            raise DataError(f"{path}: both {taken[place]} and {name} are predictions for {place}")
        taken[place] = name
    return {name: place for place, name in taken.items()}


def _ways(
    targets: Sequence[_Target], lists: Sequence[ImageList], by_frame: bool
) -> Iterator[Callable[[Name], str | None]]:
    """How a name may lead to an image, the surest first."""
    by_id = {target.id: target.id for target in targets}
    by_file = _unique(targets, _file_aliases)
    for listed in lists:  # numbers first: an image called "7" is not image 7 of a list
        names = listed.file_names
        yield partial(_by_number, file_names=names, by_id=by_id, by_file=by_file)
    yield lambda name: _by_name(str(name), by_id, by_file)
    numbers = _unique(targets, _own_number)
    yield lambda name: numbers.get(name) if isinstance(name, int) else None
    if by_frame:
        frames, of_any = _unique(targets, _sequence_and_frame), _unique(targets, _frame)
        yield lambda name: _by_frame(str(name), frames, of_any)


def _by_number(
    name: Name, *, file_names: Mapping[Name, str], by_id: Mapping[str, str], by_file: Mapping[str, str]
) -> str | None:
    return _by_name(file_names[name], by_id, by_file) if name in file_names else None


def _by_name(name: str, by_id: Mapping[str, str], by_file: Mapping[str, str]) -> str | None:
    for known in (name, _without_suffix(name)):
        if known in by_id:
            return by_id[known]
    bare = PurePosixPath(_without_suffix(name)).name
    return by_file.get(_without_suffix(name)) or by_file.get(bare)


def _by_frame(name: str, frames: Mapping[tuple[str, int], str], of_any: Mapping[int, str]) -> str | None:
    number = last_number(PurePosixPath(_without_suffix(name)).name)
    if number is None:
        return None
    sequence = _RESULT_FOLDER.fullmatch(PurePosixPath(name).parent.name)
    return frames.get((sequence[1], number)) if sequence else of_any.get(number)


def _file_aliases(target: _Target) -> Iterator[str]:
    """The bare name of its file, and that of its id: what people call an image whose id has folders."""
    yield target.file.stem
    yield PurePosixPath(target.id).name


def _own_number(target: _Target) -> Iterator[int]:
    """The number in a COCO file that is part of the id, as in ``test/A172_1#48``."""
    _, separator, number = target.id.rpartition("#")
    if separator and number.isdecimal():
        yield int(number)


def _sequence_and_frame(target: _Target) -> Iterator[tuple[str, int]]:
    number = last_number(PurePosixPath(target.id).name)
    if target.group is not None and number is not None:
        yield target.group, number


def _frame(target: _Target) -> Iterator[int]:
    """The number of a frame; an image that is of no sequence has none, whatever digits its name ends in."""
    number = last_number(PurePosixPath(target.id).name) if target.group is not None else None
    if number is not None:
        yield number


def _unique(targets: Iterable[_Target], aliases: Callable[[_Target], Iterator[Alias]]) -> dict[Alias, str]:
    """Alias -> id, without those that two images share; an image of the split goes before one outside it."""
    found: dict[bool, dict[Alias, set[str]]] = {True: {}, False: {}}
    for target in targets:
        for alias in aliases(target):
            found[target.inside].setdefault(alias, set()).add(target.id)
    owners = found[False] | found[True]
    return {alias: next(iter(ids)) for alias, ids in owners.items() if len(ids) == 1}


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else name
