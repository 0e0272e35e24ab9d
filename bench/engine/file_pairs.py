"""Truths and predictions in files, brought together image by image.

Either side is opened as what it is (COCO JSON, a folder of label images, a submission); images are matched by id,
by the same name, or all by the last number in the name; every pair is read where it is scored.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.api import DataError, UsageError
from bench.data.images import IMAGE_SUFFIXES, read_labels
from bench.metrics.evidence import named
from bench.metrics.files import CocoResults, CocoTruth
from bench.metrics.matching import Masks, Source
from bench.metrics.parallel import ImageSource
from bench.metrics.submission import KaggleSubmission

TRUTH, PREDICTION = "--truth", "--pred"
"""What the two sides are called to the user."""
AS_LABELS = "if these are a data set's own masks: bench data export CARD --format label-tiffs --to truth"
"""Hint for a truth that is the raw folder of a data set."""
ONE_SPLIT = "the truth of one split of a data set: bench data export CARD --split SPLIT --format label-tiffs --to truth"
"""Hint for a truth that has more images than were predicted."""
_TRUTH_FILES = {".json": "a COCO JSON"}
_PREDICTION_FILES = {".json": "a COCO results JSON", ".csv": "a Kaggle submission"}
"""Suffix of a file that is no folder -> what it is."""
CTC_TRUTH = re.compile(r"man_seg[_]?\d+", re.IGNORECASE)
"""Stem of a gold or silver truth of the Cell Tracking Challenge; only some frames have one."""


@dataclass(frozen=True)
class _Name:
    """What an image of one side is called, for finding it on the other."""

    key: str
    id: int | str | None = None

    def __str__(self) -> str:
        return self.key if self.id is None or str(self.id) == self.key else f"{self.key} (id {self.id})"

    @property
    def stem(self) -> str:
        return Path(self.key).stem if Path(self.key).suffix.lower() in IMAGE_SUFFIXES else Path(self.key).name

    @property
    def number(self) -> int | None:
        """The last number in the name."""
        return last_number(self.stem)


def last_number(name: str) -> int | None:
    """By which the frames of a sequence are told apart: ``t007`` and ``mask007`` are both frame 7."""
    found = re.findall(r"\d+", name)
    return int(found[-1]) if found else None


# -- the truth --------------------------------------------------------------------------------------


class _Truth(ABC):
    """Truth by position."""

    path: Path
    names: Sequence[_Name]
    classes: tuple[str, ...]
    has_classes: bool
    sparse: bool
    """Whether predictions for images without truth are normal."""

    @abstractmethod
    def read(self, index: int) -> Source: ...

    @abstractmethod
    def file(self, index: int) -> Path: ...


class _CocoTruth(_Truth):
    has_classes = True
    sparse = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.coco = CocoTruth(path)
        stems = [Path(image.file_name).stem for image in self.coco.images]
        unique = all(stems) and len(set(stems)) == len(stems)
        self.names = [
            _Name(stem if unique else str(image.id), image.id)
            for stem, image in zip(stems, self.coco.images, strict=True)
        ]
        self.classes = self.coco.classes

    def read(self, index: int) -> Source:
        return self.coco.masks(index)

    def file(self, index: int) -> Path:
        return self.path


class _LabelTruth(_Truth):
    has_classes = False
    classes = ("cell",)

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = _label_files(path)
        self.names = [_Name(file.stem) for file in self.files]
        self.sparse = all(CTC_TRUTH.fullmatch(name.stem) for name in self.names)

    def read(self, index: int) -> Source:
        return read_labels(self.files[index])

    def file(self, index: int) -> Path:
        return self.files[index]


# -- the prediction ---------------------------------------------------------------------------------


class _Prediction(ABC):
    """Predictions, once :meth:`match` has found which is for which truth."""

    path: Path
    has_classes: bool

    @abstractmethod
    def match(self, truth: _Truth) -> None:
        """Find the prediction for every truth.

        Raises:
            DataError: an image that is predicted but not in the truth, or the other way round.
        """

    @abstractmethod
    def read(self, index: int, truth: Masks) -> Source: ...

    def file(self, index: int) -> Path:
        return self.path


class _CocoPrediction(_Prediction):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = CocoResults(path)
        self.has_classes = bool(self.results.categories)
        self._class_of: dict[int | None, int] | None = None

    def match(self, truth: _Truth) -> None:
        if isinstance(truth, _CocoTruth) and self.has_classes:
            self._class_of = truth.coco.class_of
        found = _found(self.path, truth, self.results.image_ids)
        self._ids = [found.get(index) for index in range(len(truth.names))]

    def read(self, index: int, truth: Masks) -> Source:
        return self.results.masks(self._ids[index], truth.runs.height, truth.runs.width, self._class_of)


class _LabelPrediction(_Prediction):
    has_classes = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = _label_files(path)

    def match(self, truth: _Truth) -> None:
        stems = {file.stem: file for file in self.files}
        by_file = dict(zip(stems, self.files, strict=True))
        found = _found(self.path, truth, list(stems), complete=True)
        self._of_truth = [by_file[str(found[index])] for index in range(len(truth.names))]

    def read(self, index: int, truth: Masks) -> Source:
        return read_labels(self._of_truth[index])

    def file(self, index: int) -> Path:
        return self._of_truth[index]


class _KagglePrediction(_Prediction):
    has_classes = False

    def __init__(self, path: Path, order: str | None) -> None:
        self.path = path
        self.submission = KaggleSubmission(path, order)

    def match(self, truth: _Truth) -> None:
        found = _found(self.path, truth, self.submission.image_ids, complete=True)
        self._ids = [str(found[index]) for index in range(len(truth.names))]

    def read(self, index: int, truth: Masks) -> Source:
        return self.submission.masks(self._ids[index], truth.runs.height, truth.runs.width)


def _found(path: Path, truth: _Truth, names: Sequence[int | str], *, complete: bool = False) -> dict[int, int | str]:
    """Which of the predicted ``names`` is for which truth, by id, by stem, or all by the last number in the name.

    Raises:
        DataError: a name that no truth has, two for one truth, or, with ``complete``, a truth without any.
    """
    by_id = {name.id: index for index, name in enumerate(truth.names) if name.id is not None}
    by_name = {name.stem: index for index, name in enumerate(truth.names)}
    by_text = {str(id_): index for id_, index in by_id.items()} | by_name
    # A number is an id where the truth has ids, and never the name or the last number of another image.
    ids_only = bool(by_id) and all(isinstance(name, int) for name in names)
    places = [by_id.get(name) if ids_only or name in by_id else by_text.get(_Name(str(name)).stem) for name in names]
    if not ids_only and not any(place is not None for place in places):
        places = _by_number(path, truth, names)
    found: dict[int, int | str] = {}
    for predicted, place in zip(names, places, strict=True):
        if place is None:
            if truth.sparse:
                continue
            raise DataError(
                f"{path}: a prediction for image {predicted}, which {TRUTH} {truth.path} does not have",
                f"its images are called {_some([str(n) for n in truth.names])}",
            )
        if place in found:
            raise DataError(f"{path}: both {found[place]} and {predicted} are predictions for {truth.names[place].key}")
        found[place] = predicted
    if complete and len(found) < len(truth.names):
        missing = [name.key for index, name in enumerate(truth.names) if index not in found]
        raise DataError(
            f"{path}: no prediction for {len(missing)} of {len(truth.names)} images, such as {missing[0]}",
            "an image on which nothing was found needs an empty prediction"
            + (f"; {ONE_SPLIT}" if truth.path.is_dir() else ""),
        )
    return found


def _by_number(path: Path, truth: _Truth, names: Sequence[int | str]) -> list[int | None]:
    numbers: dict[int, int] = {}
    for index, name in enumerate(truth.names):
        if name.number is None:
            return [None] * len(names)
        if name.number in numbers:
            raise DataError(
                f"{TRUTH} {truth.path}: {truth.names[numbers[name.number]].key} and {name.key} end in the same number, "
                f"and no name in {path.name} is the same as one of them",
                "give predictions the names of their truths",
            )
        numbers[name.number] = index
    return [numbers.get(number) if (number := _Name(str(name)).number) is not None else None for name in names]


def _label_files(folder: Path) -> list[Path]:
    try:
        found = sorted(
            (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")),
            key=lambda p: p.name,
        )
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    if not found and (folder / "SEG").is_dir():
        return _label_files(folder / "SEG")
    if not found:
        raise DataError(
            f"{folder}: no label image in it", f"looked for {', '.join(IMAGE_SUFFIXES)} in the folder itself"
        )
    stems: dict[str, Path] = {}
    for file in found:
        if file.stem in stems:
            raise DataError(f"{folder}: both {stems[file.stem].name} and {file.name}", "one label image for each name")
        stems[file.stem] = file
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


# -- both ------------------------------------------------------------------------------------------


class FilePairs(ImageSource):
    """Truths beside predictions, read one image at a time.

    Args:
        truth: COCO JSON, or a folder of label images (of the Cell Tracking Challenge: its ``SEG``).
        prediction: COCO results JSON, a folder of label images, or a Kaggle submission CSV.
        rle: how a submission counts pixels, ``row`` or ``column``; default by its columns.

    Attributes:
        classes: names of the classes that both sides know; one where either knows none.

    Raises:
        DataError: files that are missing, broken, or not about the same images.
    """

    def __init__(self, truth: Path, prediction: Path, rle: str | None = None) -> None:
        with _blaming(TRUTH):
            self._truth: _Truth = _LabelTruth(truth) if truth.is_dir() else _CocoTruth(_file(truth, _TRUTH_FILES))
        self._prediction: _Prediction
        with _blaming(PREDICTION):
            if prediction.is_dir():
                self._prediction = _LabelPrediction(prediction)
            elif prediction_file(prediction).suffix.lower() == ".csv":
                self._prediction = _KagglePrediction(prediction, rle)
            else:
                self._prediction = _CocoPrediction(prediction)
        if rle and not isinstance(self._prediction, _KagglePrediction):
            raise UsageError("--rle is for a Kaggle submission", f"{prediction} is none")
        with _blaming(PREDICTION):
            self._prediction.match(self._truth)
        self._with_classes = self._truth.has_classes and self._prediction.has_classes
        self.classes = self._truth.classes if self._with_classes else ("cell",)

    def __len__(self) -> int:
        return len(self._truth.names)

    def __getitem__(self, index: int) -> tuple[str, Masks, Source, None]:
        try:
            truth = Masks.of(self._truth.read(index))
        except DataError as error:
            hints = [hint for hint in (error.hint, AS_LABELS if self._truth.path.is_dir() else None) if hint]
            hint = "; ".join(hints) or None
            raise _with_file(TRUTH, self._truth.file(index), DataError(error.message, hint)) from None
        if not self._with_classes:
            truth = truth.of_one_class()
        try:
            prediction = self._prediction.read(index, truth)
        except DataError as error:
            raise _with_file(PREDICTION, self._prediction.file(index), error) from None
        return self._truth.names[index].key, truth, prediction, None

    def explained(self, index: int, error: DataError) -> DataError:
        """The error with the file of the prediction."""
        return _with_file(PREDICTION, self._prediction.file(index), named(self._truth.names[index].key, error))


@contextmanager
def _blaming(side: str) -> Iterator[None]:
    """Say of which side a broken file is, where the error does not say it."""
    try:
        yield
    except DataError as error:
        if error.message.startswith((TRUTH, PREDICTION)):
            raise
        raise DataError(f"{side} {error.message}", error.hint) from None


def _with_file(side: str, path: Path, error: DataError) -> DataError:
    if error.message.startswith((TRUTH, PREDICTION)):
        return error
    if error.message.startswith(str(path)):
        return DataError(f"{side} {error.message}", error.hint)
    return DataError(f"{side} {path}: {error.message}", error.hint)


def prediction_file(path: Path) -> Path:
    """``path``, if it can be a file of predictions by its ending.

    Raises:
        DataError: it is not there, or is of another kind.
    """
    return _file(path, _PREDICTION_FILES)


def _file(path: Path, kinds: Mapping[str, str]) -> Path:
    wanted = f"give {', '.join(f'{kind} ({suffix})' for suffix, kind in kinds.items())} or a folder of label images"
    try:
        path.stat()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder", wanted) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror}", wanted) from None
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise DataError(f"{path}: neither a folder nor {' or '.join(kinds)}", "of a single image, give its folder")
    if path.suffix.lower() not in kinds:
        raise DataError(f"{path}: neither a folder nor a {' or '.join(kinds)} file", wanted)
    return path
