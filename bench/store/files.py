"""The files of a run folder, as a reader sees them: by fixed names, never written, never followed out of the folder.

The engine writes them (:mod:`bench.engine.folder`); whoever shows a stored run reads them here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import DataError
from bench.instances import Instances

if TYPE_CHECKING:
    from bench.records import ArtifactRecord
    from bench.store.queries import StoredRun

PLAN = "plan.json"
PREDICTIONS = "predictions.jsonl"
TIMINGS = "timings.jsonl"
LOG = "log.txt"
TRAINING = "training"
CURVES_NAME = "training.jsonl"
DROPPED_NAME = "dropped.json"
WEIGHTS_NAME = "weights.pth"
CURVES = f"{TRAINING}/{CURVES_NAME}"
OPERATING_POINT = "operating_point.json"
CHATTER = f"{TRAINING}/libraries.txt"
TRAINING_LOG = re.compile(rf"{TRAINING}/(?:[A-Za-z0-9_-]+/)?(\d{{8}}_\d{{6}})/\1\.log", re.ASCII)
"""What MMEngine writes of a training, or of a stage of one, each time that it starts."""

WEIGHTS = f"{TRAINING}/{WEIGHTS_NAME}"
READABLE = (PLAN, PREDICTIONS, OPERATING_POINT, TIMINGS, LOG, CURVES, CHATTER)
"""What :class:`RunFiles` opens; besides, of each stage of a training, its curve, what it dropped, and its logs."""

_NUMBERS_COME_FROM = {PREDICTIONS: "predictions", OPERATING_POINT: "details of the operating point"}
"""File -> what it holds."""

_AGAIN = "run it again with --force"

SHOWN_BYTES = 64 * 1024
"""Of a log, from its end."""

SHOWN_LOGS = 4
"""Logs of a training that are read, at most: the last."""


@dataclass(frozen=True)
class OperatingPoint:
    """From which confidence a run's detections count where a protocol knows no confidence.

    Attributes:
        min_score: that confidence.
        split: whose images it was chosen on; never the one that is evaluated.
        images: how many.
        metric: that is best there.
        value: of the metric at ``min_score``; None where it is undefined at every confidence.
    """

    min_score: float
    split: str
    images: int
    metric: str
    value: float | None

    @classmethod
    def read(cls, path: Path) -> OperatingPoint:
        """What :mod:`bench.engine.operating_point` wrote.

        Raises:
            DataError: it is damaged.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            value = content["value"]
            return cls(
                float(content["min_score"]),
                str(content["split"]),
                int(content["images"]),
                str(content["metric"]),
                None if value is None else float(value),
            )
        except (ValueError, TypeError, KeyError):
            raise DataError(f"{path} is damaged", "run again with --force") from None


class RunFiles:
    """The known files of a stored run.

    A folder is believed only if its plan names the run's key, and a file only if it lies in the folder once links are
    followed: a folder's name in a database may come from anywhere.

    Args:
        run: as the store has it.
    """

    def __init__(self, run: StoredRun) -> None:
        self._run = run
        self._folder = Path(run.folder)

    def path(self, name: str) -> Path | None:
        """Where a known file lies, or None where it is not there or not to be trusted.

        Raises:
            ValueError: ``name`` is none of :data:`READABLE`.
        """
        if name not in READABLE:
            raise ValueError(f"{name!r} is no file of a run")
        return self._within(name) if self._is_of_this_run() else None

    def verified(self, artifacts: Iterable[ArtifactRecord]) -> RunFiles:
        """These files, known to be those that the run's numbers were made from.

        Runs of one key share a folder: made again by ``--force``, or begun to be, it holds another attempt's files.

        Args:
            artifacts: of the run, as the store has them.

        Raises:
            DataError: its predictions or its operating point are gone, or are not those that the run wrote.
        """
        written = {artifact.path: artifact.sha256 for artifact in artifacts}
        for name, what in _NUMBERS_COME_FROM.items():
            if name not in written:
                continue
            path = self.path(name)
            if path is None:
                raise DataError(f"the {what} of run {self._run.id} are gone: {self._folder}", _AGAIN)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != written[name]:
                later = "a later run took its place" if self._run.superseded else _AGAIN
                raise DataError(f"the {what} in {path} are not those of run {self._run.id} any more", later)
        return self

    def prediction(self, image: str) -> Instances:
        """What the run predicted on one image.

        Raises:
            DataError: the predictions are gone or damaged, or hold none for this image.
        """
        path = self._predictions()
        start = b'{"id":' + json.dumps(image).encode() + b","
        found: dict[str, Any] | None = None
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.startswith(start) and line.endswith(b"\n"):
                    found = _record(path, number, line)
        if found is None:
            raise DataError(f"run {self._run.id} holds no prediction for the image {image}", _AGAIN)
        return _checked(path, found)[1]

    def predictions(self) -> dict[str, Instances]:
        """What the run predicted, by image.

        Raises:
            DataError: the predictions are gone or damaged.
        """
        return read_predictions(self._predictions())

    def operating_point(self) -> OperatingPoint | None:
        """From which confidence its detections count where a protocol knows none; None: all of them count.

        Raises:
            DataError: the file is damaged.
        """
        path = self.path(OPERATING_POINT)
        return None if path is None else OperatingPoint.read(path)

    def min_score(self) -> float | None:
        """The confidence of :meth:`operating_point`."""
        point = self.operating_point()
        return None if point is None else point.min_score

    def log(self) -> dict[str, str]:
        """File name to text: what the run wrote while it went, of each the last :data:`SHOWN_BYTES`.

        Of the logs of a training, which was begun again where it was cut off, the last :data:`SHOWN_LOGS`.
        """
        found = {}
        known = {name: self.path(name) for name in (LOG, CHATTER)} | self._training_logs()
        for name, path in known.items():
            if path is None:
                continue
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - SHOWN_BYTES))
                found[name] = file.read().decode("utf-8", "replace")
        return found

    def curves(self) -> dict[str, list[dict[str, float]]]:
        """Stage of the training ("" where it has but one) to its curve: a row a logged step, of numbers.

        Raises:
            DataError: a file is damaged.
        """
        return {
            stage: [_numbers(record) for record in records(path)]
            for stage, path in self._of_stages(CURVES_NAME).items()
        }

    def dropped(self) -> dict[str, dict[str, Any]]:
        """Stage of the training ("" where it has but one) to what of the truth it did not learn from, and why.

        ``counted`` says what an example is, ``examples`` and ``instances`` how many there were, ``dropped`` is reason
        to instances. Nothing for a training whose method does not count.

        Raises:
            DataError: a file is damaged.
        """
        found = {}
        for stage, path in self._of_stages(DROPPED_NAME).items():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                content = None
            if not isinstance(content, dict):
                raise DataError(f"{path} is damaged", _AGAIN)
            found[stage] = content
        return found

    # -- inside ----------------------------------------------------------------------------------------

    def _of_stages(self, name: str) -> dict[str, Path]:
        """A file of each stage of the training, where it is there."""
        if not self._is_of_this_run():
            return {}
        stages = sorted(path.parent.name for path in self._folder.glob(f"{TRAINING}/*/{name}"))
        found = {stage: self._within(f"{TRAINING}/{stage}/{name}") for stage in ("", *stages)}
        return {stage: path for stage, path in found.items() if path is not None}

    def _training_logs(self) -> dict[str, Path]:
        """Name in the folder to the log of a training, the oldest of the last ones first."""
        if not self._is_of_this_run():
            return {}
        found = {
            path.relative_to(self._folder).as_posix()
            for pattern in ("*/*.log", "*/*/*.log")
            for path in (self._folder / TRAINING).glob(pattern)
        }
        names = sorted(filter(TRAINING_LOG.fullmatch, found), key=lambda name: name.rpartition("/")[2])
        paths = {name: self._within(name) for name in names}
        return dict([(name, path) for name, path in paths.items() if path is not None][-SHOWN_LOGS:])

    def _predictions(self) -> Path:
        path = self.path(PREDICTIONS)
        if path is None:
            raise DataError(f"the predictions of run {self._run.id} are gone: {self._folder}", _AGAIN)
        return path

    def _is_of_this_run(self) -> bool:
        plan = self._within(PLAN)
        if plan is None:
            return False
        try:
            content = json.loads(plan.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(content, dict) and content.get("key") == self._run.key

    def _within(self, name: str) -> Path | None:
        try:
            folder = self._folder.resolve(strict=True)
            path = (folder / name).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # not there, a loop of links, a NUL in the name
            return None
        return path if path.is_relative_to(folder) and path.is_file() else None


def to_record(image_id: str, instances: Instances) -> dict[str, Any]:
    """A prediction as plain data; :func:`from_record` gives back an equal one."""
    return {
        "id": image_id,
        "size": [instances.height, instances.width],
        "counts": [r.decode("ascii") for r in instances.rles],
        "class_ids": instances.class_ids.tolist(),
        "scores": None if instances.scores is None else instances.scores.tolist(),
        "boxes": instances.boxes.tolist(),
    }


def from_record(record: Mapping[str, Any]) -> tuple[str, Instances]:
    """(image id, prediction) of a line of ``predictions.jsonl``."""
    height, width = record["size"]
    return record["id"], Instances(
        height,
        width,
        tuple(c.encode("ascii") for c in record["counts"]),
        class_ids=np.asarray(record["class_ids"], np.int64),
        scores=None if record["scores"] is None else np.asarray(record["scores"], np.float64),
        boxes=np.asarray(record["boxes"], np.float64).reshape(-1, 4),
    )


def read_predictions(path: Path) -> dict[str, Instances]:
    """What a ``predictions.jsonl`` holds, by image; of an image that is there twice the last.

    Raises:
        DataError: it is damaged.
    """
    return dict(_checked(path, record) for record in records(path))


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of a file of JSON lines; one that a killed writer left half is not there yet.

    Raises:
        DataError: a line is no record: the file is damaged, or somebody edited it.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield _record(path, number, line)


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise DataError(f"{path}, line {number}: not a record", "run again with --force")
    return record


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    return {
        str(key): float(value)
        for key, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _checked(path: Path, record: Mapping[str, Any]) -> tuple[str, Instances]:
    try:
        image, found = from_record(record)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(f"{path}: a record is not that of a prediction", "run again with --force") from None
    return image, found
