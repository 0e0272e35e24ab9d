"""Scoring files against files, without a data set, a run or a store: what ``bench score`` does.

Truth and prediction are each opened as what they are (COCO JSON, a folder of label images, a Kaggle submission), their
images are brought together by id or name, and every pair is read where it is scored.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.api import DataError, OutputError, UsageError
from bench.data.images import IMAGE_SUFFIXES, read_labels
from bench.metrics import Scorer, Scores, protocol, protocol_names
from bench.metrics.evidence import named
from bench.metrics.files import CocoResults, CocoTruth
from bench.metrics.matching import Masks, Source
from bench.metrics.parallel import ImageSource
from bench.metrics.scoring import Progress
from bench.metrics.submission import KaggleSubmission

CTC_TRUTH = re.compile(r"man_seg[_]?\d+", re.IGNORECASE)
"""Stem of a gold or silver truth of the Cell Tracking Challenge; only some frames have one."""


@dataclass(frozen=True)
class _Name:
    """What an image of one side is called, for finding it on the other."""

    key: str
    id: int | str | None = None

    @property
    def stem(self) -> str:
        return Path(self.key).stem if Path(self.key).suffix.lower() in IMAGE_SUFFIXES else Path(self.key).name

    @property
    def number(self) -> int | None:
        """The last number in the name."""
        found = re.findall(r"\d+", self.stem)
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
    by_name: dict[int | str, int] = {}
    for index, name in enumerate(truth.names):
        by_name[name.key] = by_name[name.stem] = index
    for index, name in enumerate(truth.names):
        if name.id is not None:
            by_name.setdefault(str(name.id), index)
            by_name[name.id] = index
    places = [by_name.get(name, by_name.get(_Name(str(name)).stem)) for name in names]
    if not any(place is not None for place in places):
        places = _by_number(path, truth, names)
    found: dict[int, int | str] = {}
    for predicted, place in zip(names, places, strict=True):
        if place is None:
            if truth.sparse:
                continue
            raise DataError(
                f"{path}: a prediction for image {predicted}, which {truth.path} does not have",
                f"its images are called {_some([n.key for n in truth.names])}",
            )
        if place in found:
            raise DataError(f"{path}: both {found[place]} and {predicted} are predictions for {truth.names[place].key}")
        found[place] = predicted
    if complete and len(found) < len(truth.names):
        missing = [name.key for index, name in enumerate(truth.names) if index not in found]
        raise DataError(
            f"{path}: no prediction for {len(missing)} of {len(truth.names)} images, such as {missing[0]}",
            "an image on which nothing was found needs an empty prediction",
        )
    return found


def _by_number(path: Path, truth: _Truth, names: Sequence[int | str]) -> list[int | None]:
    numbers: dict[int, int] = {}
    for index, name in enumerate(truth.names):
        if name.number is None:
            return [None] * len(names)
        if name.number in numbers:
            raise DataError(
                f"{truth.path}: {truth.names[numbers[name.number]].key} and {name.key} end in the same number, "
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
        raise DataError(f"{folder}: no label image in it", f"looked for {', '.join(IMAGE_SUFFIXES)}")
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
        self._truth: _Truth = _LabelTruth(truth) if truth.is_dir() else _CocoTruth(_file(truth, (".json",)))
        self._prediction: _Prediction
        if prediction.is_dir():
            self._prediction = _LabelPrediction(prediction)
        elif _file(prediction, (".json", ".csv")).suffix.lower() == ".csv":
            self._prediction = _KagglePrediction(prediction, rle)
        else:
            self._prediction = _CocoPrediction(prediction)
        if rle and not isinstance(self._prediction, _KagglePrediction):
            raise UsageError("--rle is for a Kaggle submission", f"{prediction} is none")
        self._prediction.match(self._truth)
        self._with_classes = self._truth.has_classes and self._prediction.has_classes
        self.classes = self._truth.classes if self._with_classes else ("cell",)

    def __len__(self) -> int:
        return len(self._truth.names)

    def __getitem__(self, index: int) -> tuple[str, Masks, Source, None]:
        try:
            truth = Masks.of(self._truth.read(index))
        except DataError as error:
            raise _with_file(self._truth.file(index), error) from None
        if not self._with_classes:
            truth = truth.of_one_class()
        return self._truth.names[index].key, truth, self._prediction.read(index, truth), None

    def explained(self, index: int, error: DataError) -> DataError:
        """The error with the file of the prediction."""
        return _with_file(self._prediction.file(index), named(self._truth.names[index].key, error))


def _with_file(path: Path, error: DataError) -> DataError:
    if error.message.startswith(str(path)):
        return error
    return DataError(f"{path}: {error.message}", error.hint)


def _file(path: Path, suffixes: tuple[str, ...]) -> Path:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.suffix.lower() not in suffixes:
        raise DataError(f"{path}: neither a folder nor a {' or '.join(suffixes)} file")
    return path


# -- what bench score does --------------------------------------------------------------------------


def protocols_with(names: str, settings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The protocols asked for, with each setting at every one that has such a parameter.

    Args:
        names: ``all``, or names separated by commas.
        settings: ``parameter`` or ``protocol.parameter`` -> value.

    Raises:
        UnknownNameError: no such protocol.
        UsageError: none is named, or a setting that none of them has.
    """
    chosen = list(protocol_names()) if names.strip() == "all" else [n.strip() for n in names.split(",") if n.strip()]
    known = {name: protocol(name).parameters() for name in chosen}
    found: dict[str, dict[str, str]] = {name: {} for name in chosen}
    for setting, value in settings.items():
        at, _, parameter = setting.rpartition(".")
        takers = [name for name in chosen if parameter in known[name] and at in ("", name)]
        if not takers:
            everything = sorted({p for parameters in known.values() for p in parameters})
            raise UsageError(
                f"no protocol asked for has a parameter {setting!r}", f"there are: {', '.join(everything) or 'none'}"
            )
        for name in takers:
            found[name][parameter] = value
    return found


def score_files(
    truth: Path,
    prediction: Path,
    protocols: Mapping[str, Mapping[str, Any]],
    *,
    rle: str | None = None,
    workers: int = 1,
    intervals: bool = False,
    images: bool = True,
    progress: Progress | None = None,
) -> Scores:
    """Score the predictions in files against the truth in files; see :class:`FilePairs`.

    Raises:
        UnknownNameError, UsageError: the protocols or their parameters.
        DataError: the files.
    """
    pairs = FilePairs(truth, prediction, rle)
    scorer = Scorer(protocols, classes=pairs.classes, intervals=intervals, images=images)
    scorer.add_all(pairs, workers=workers, progress=progress)
    del pairs  # what was read is not needed for the sums, and large files need room
    return scorer.result()


def as_plain(scores: Scores) -> dict[str, Any]:
    """The scores as plain data for JSON: undefined numbers are None, with the reason under ``reasons``."""
    results = {name: found.results for name, found in scores.protocols.items()}
    plain: dict[str, Any] = {
        "n_images": scores.n_images,
        "n_truth": scores.n_truth,
        "n_pred": scores.n_predictions,
        "protocols": {name: {r.metric: r.value for r in found} for name, found in results.items()},
        "reasons": {
            name: {r.metric: r.reason for r in found if r.reason}
            for name, found in results.items()
            if any(r.reason for r in found)
        },
        "units": {name: {r.metric: r.unit for r in found} for name, found in results.items()},
        "rules": {
            name: {"version": found.version, "params": dict(found.params)} for name, found in scores.protocols.items()
        },
    }
    if any(r.low is not None for found in results.values() for r in found):
        plain["intervals"] = {
            name: {r.metric: None if r.low is None else [r.low, r.high] for r in found}
            for name, found in results.items()
        }
    return plain


def table(scores: Scores) -> tuple[tuple[str, ...], list[list[str]]]:
    """Head and rows of the scores for a terminal; an undefined number is a dash with its reason."""
    rows = []
    with_intervals = any(r.low is not None for found in scores.protocols.values() for r in found.results)
    for name, found in scores.protocols.items():
        for r in found.results:
            value = "-" if r.value is None else f"{r.value:.4f}"
            spread = [] if not with_intervals else ["" if r.low is None else f"{r.low:.4f} to {r.high:.4f}"]
            rows.append([name, r.metric, value, *spread, r.unit, r.reason or ""])
    head = ("protocol", "metric", "value", *(("95 % interval",) if with_intervals else ()), "unit", "")
    return head, rows


def write_json(path: Path, scores: Scores) -> None:
    """Write the scores, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    _write(path, json.dumps(as_plain(scores), indent=2, allow_nan=False) + "\n")


def write_images(path: Path, scores: Scores) -> None:
    """Write the values of single images as CSV, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("image", "protocol", "metric", "value", "tp", "fp", "fn"))
    for name, found in scores.protocols.items():
        for image in found.images:
            row = (image.image_key, name, image.metric, image.value, image.tp, image.fp, image.fn)
            writer.writerow("" if cell is None else cell for cell in row)
    _write(path, table.getvalue())


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror}", "give another place") from error
