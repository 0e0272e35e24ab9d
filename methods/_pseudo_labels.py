"""Pseudo labels: a trained method's surest predictions on images without annotations, taken for truth.

They are written to a file as they are made, so that a killed run goes on after the last whole line.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.api import Instances, OutputError, Sample, SampleSource

LABELS = "pseudo_labels.jsonl"
"""In the folder of the stage that trains on them: one line an image."""

Predict = Callable[[NDArray[Any]], Instances]


@dataclass(frozen=True)
class Rule:
    """Which predictions become labels.

    Attributes:
        score: at least.
        area: pixels, at least.
    """

    score: float
    area: int

    def keep(self, found: Instances) -> Instances:
        """The predictions that are sure and large enough, as truth: without scores."""
        sure = np.ones(len(found), bool) if found.scores is None else found.scores >= self.score
        return replace(found.take(sure & (found.areas >= self.area)), scores=None)


@dataclass(frozen=True)
class Counts:
    """How many labels were made.

    Attributes:
        images: that were looked at.
        labelled: of these, how many have a label; the others are not trained on, since no label is not no cell.
        instances: labels by class id.
    """

    images: int
    labelled: int
    instances: dict[int, int]

    def text(self, classes: Sequence[str]) -> str:
        """For people."""
        by_class = ", ".join(f"{self.instances.get(i, 0)} {name}" for i, name in enumerate(classes))
        return (
            f"pseudo labels: {sum(self.instances.values())} objects ({by_class}) "
            f"in {self.labelled} of {self.images} images; images without any are left out"
        )


def make_labels(
    source: SampleSource,
    file: Path,
    rule: Rule,
    predictor: Callable[[], Predict],
    progress: Callable[[int, int, str], None],
) -> Counts:
    """Label the images of ``source`` that ``file`` does not have yet.

    Args:
        source: images; truth that they may have is not looked at.
        file: of the labels; made where it is not there.
        rule: which predictions are kept.
        predictor: makes the function that predicts; called only if there is an image left.
        progress: called as ``progress(done, total, text)``.

    Raises:
        OutputError: the file cannot be written.
    """
    done = _read(file)
    pending = [index for index, image_id in enumerate(source.ids) if image_id not in done]
    predict = predictor() if pending else None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="ascii") as out:
            for count, index in enumerate(pending, 1):
                assert predict is not None
                sample = source[index]
                kept = rule.keep(predict(sample.image))
                out.write(json.dumps(_record(sample.id, kept), separators=(",", ":")) + "\n")
                out.flush()
                done[sample.id] = kept
                progress(len(source) - len(pending) + count, len(source), f"pseudo labels: {len(kept)} objects")
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror or error}", "free space or choose --runs") from error
    labels = [done[image_id] for image_id in source.ids]
    classes = Counter(int(c) for instances in labels for c in instances.class_ids)
    return Counts(len(labels), sum(len(instances) > 0 for instances in labels), dict(sorted(classes.items())))


class Labelled:
    """Annotated images, and after them those images of ``unlabelled`` that have pseudo labels.

    It is a :class:`bench.api.SampleSource`.

    Args:
        annotated: images with truth.
        unlabelled: images without.
        file: what :func:`make_labels` wrote for ``unlabelled``.
    """

    def __init__(self, annotated: SampleSource, unlabelled: SampleSource, file: Path) -> None:
        self._annotated, self._unlabelled = annotated, unlabelled
        self._labels = {image_id: found for image_id, found in _read(file).items() if len(found)}
        self._places = [index for index, image_id in enumerate(unlabelled.ids) if image_id in self._labels]

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids in order."""
        return (*self._annotated.ids, *(self._unlabelled.ids[place] for place in self._places))

    def __len__(self) -> int:
        return len(self._annotated) + len(self._places)

    def __getitem__(self, index: int) -> Sample:
        if index < len(self._annotated):
            return self._annotated[index]
        sample = self._unlabelled[self._places[index - len(self._annotated)]]
        return replace(sample, instances=self._labels[sample.id])

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


def _record(image_id: str, found: Instances) -> dict[str, Any]:
    return {
        "id": image_id,
        "size": list(found.shape),
        "counts": [counts.decode("ascii") for counts in found.rles],
        "class_ids": found.class_ids.tolist(),
    }


def _read(file: Path) -> dict[str, Instances]:
    """The labels by image; what a kill left of a last line is cut off."""
    if not file.is_file():
        return {}
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        file.write_bytes(whole)
    labels = {}
    for line in whole.splitlines():
        record = json.loads(line)
        rles = tuple(counts.encode("ascii") for counts in record["counts"])
        labels[record["id"]] = Instances(*record["size"], rles, class_ids=record["class_ids"])
    return labels
