"""Scoring: images go in one by one, numbers with intervals come out."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.api import DataError, UsageError
from bench.metrics.bootstrap import interval, resample_weights
from bench.metrics.evidence import ImageEvidence, measure, named
from bench.metrics.matching import Source
from bench.metrics.parallel import ImageSource, measure_all
from bench.metrics.protocol import Pool, Protocol
from bench.metrics.registry import Choice, make_protocols
from bench.metrics.types import MetricResult, ProtocolScores, Scores

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, text)``."""

RESAMPLES = 1000
"""Bootstrap resamples behind an interval where nothing else is asked for."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The evidence of all images, pooled by protocol; :func:`bench.metrics.compare` sums it anew."""

    keys: tuple[str, ...]
    groups: tuple[str, ...]
    pools: dict[str, Pool]


class Scorer:
    """Scores images as they come; of each it keeps little, so that memory stays flat.

    Args:
        protocols: ``"all"``, names, or names with parameters.
        classes: names of the classes, in the order of ``Instances.class_ids``; default one class.
        intervals: whether 95 % intervals are wanted.
        images: whether the values of single images are wanted.
        resamples: bootstrap resamples behind the intervals.
        seed: of the bootstrap.
        min_score: detections of a lower confidence count only where confidence orders them: in the protocols that
            score overlapping masks as they are (AP). Default none: all count everywhere.

    Raises:
        UnknownNameError: no such protocol.
        UsageError: a parameter that does not fit.
    """

    def __init__(
        self,
        protocols: Choice = "all",
        *,
        classes: Sequence[str] | None = None,
        intervals: bool = True,
        images: bool = True,
        resamples: int = RESAMPLES,
        seed: int = 0,
        min_score: float | None = None,
    ) -> None:
        if min_score is not None and not math.isfinite(min_score):
            raise UsageError(f"min_score is {min_score}", "give a confidence, such as 0.5")
        self.min_score = min_score
        self.classes = tuple(classes or ("cell",))
        self.protocols = make_protocols(protocols, self.classes)
        self._intervals, self._with_images, self._resamples, self._seed = intervals, images, resamples, seed
        self._images: dict[str, ImageEvidence] = {}

    def add(self, image_key: str, truth: Source, prediction: Source, group: str | None = None) -> None:
        """Score one image.

        Args:
            image_key: unique.
            truth: what is there.
            prediction: what a method says is there.
            group: what it is resampled together with (sequence, donor, slide); default the image alone.

        Raises:
            DataError: an image that came before, sizes that differ, broken masks, or an array that is no label image.
        """
        key = str(image_key)
        try:
            evidence = measure(self.protocols, key, truth, prediction, group, self.min_score)
        except DataError as error:
            raise named(key, error) from None
        self.put(evidence)

    def add_all(self, source: ImageSource, *, workers: int = 1, progress: Progress | None = None) -> None:
        """Score the images of a source, in several processes if asked; the numbers do not depend on how many.

        Raises:
            BenchError: whatever the source raises, and as :meth:`add`.
        """
        for done, evidence in enumerate(measure_all(self.protocols, source, workers, self.min_score), start=1):
            self.put(evidence)
            if progress:
                progress(done, len(source), evidence.key)

    def put(self, evidence: ImageEvidence) -> None:
        """Take an image measured elsewhere (see :func:`measure`) under the same protocols.

        Raises:
            DataError: an image that came before.
        """
        if evidence.key in self._images:
            raise DataError(f"the image {evidence.key} comes twice", "image keys are unique")
        self._images[evidence.key] = evidence

    def result(self, progress: Progress | None = None) -> Scores:
        """The numbers over all images so far.

        Raises:
            DataError: there is no image.
        """
        if not self._images:
            raise DataError("there is no image to score")
        images = sorted(self._images.values(), key=lambda image: (natural_key(image.key), image.key))
        keys = tuple(image.key for image in images)
        groups = tuple(image.key if image.group is None else f"group {image.group}" for image in images)
        scored = all(image.scored is not False for image in images)
        pools = {
            protocol.name: protocol.pool([image.of_protocol[i] for image in images], scored)
            for i, protocol in enumerate(self.protocols)
        }
        weights = resample_weights(groups, self._resamples, self._seed) if self._intervals else None
        found = {}
        for done, protocol in enumerate(self.protocols):
            if progress:
                progress(done, len(self.protocols), f"{protocol.name}: intervals" if self._intervals else protocol.name)
            found[protocol.name] = _conclude(protocol, pools[protocol.name], keys, weights, self._with_images)
        return Scores(
            n_images=len(images),
            n_truth=sum(image.n_truth for image in images),
            n_predictions=sum(image.n_predictions for image in images),
            protocols=found,
            evidence=Evidence(keys, groups, pools),
        )


def score(
    truths: Sequence[Source],
    predictions: Sequence[Source],
    protocols: Choice = "all",
    *,
    image_keys: Sequence[str] | None = None,
    groups: Sequence[str | None] | None = None,
    classes: Sequence[str] | None = None,
    workers: int = 1,
    intervals: bool = True,
    images: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
    min_score: float | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score predictions against truth, image by image.

    Args:
        truths: one :class:`~bench.api.Instances` or label image (H, W) an image.
        predictions: the same, in the same order; label images have no confidence, so no AP.
        protocols: ``"all"``, names, or names with parameters: ``{"kaggle": {"strict": False}}``.
        image_keys: unique names; default their numbers.
        groups: what is resampled together; default each image by itself.
        classes: names of the classes; default one class.
        workers: processes; the numbers do not depend on it.
        intervals: whether 95 % intervals are wanted.
        images: whether the values of single images are wanted.
        resamples: bootstrap resamples behind the intervals.
        seed: of the bootstrap.
        min_score: see :class:`Scorer`.
        progress: called after every image.

    Returns:
        the numbers of every protocol.

    Raises:
        UnknownNameError: no such protocol.
        UsageError: lengths that differ, or a parameter that does not fit.
        DataError: an image that cannot be scored; the message names it.
    """
    count = len(truths)
    keys = [str(k) for k in (range(count) if image_keys is None else image_keys)]
    grouping = [None] * count if groups is None else list(groups)
    for name, column in (("predictions", predictions), ("image keys", keys), ("groups", grouping)):
        if len(column) != count:
            raise UsageError(f"{len(column)} {name} for {count} truths", "give one for each image, in the same order")
    scorer = Scorer(
        protocols,
        classes=classes,
        intervals=intervals,
        images=images,
        resamples=resamples,
        seed=seed,
        min_score=min_score,
    )
    scorer.add_all(_Arrays(keys, truths, predictions, grouping), workers=workers, progress=progress)
    return scorer.result()


@dataclass(frozen=True, eq=False)
class _Arrays:
    keys: Sequence[str]
    truths: Sequence[Source]
    predictions: Sequence[Source]
    groups: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[str, Source, Source, str | None]:
        return self.keys[index], self.truths[index], self.predictions[index], self.groups[index]

    def explained(self, index: int, error: DataError) -> DataError:
        return named(self.keys[index], error)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts ``img2`` before ``img10``."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part)


def _conclude(
    protocol: Protocol, pool: Pool, keys: Sequence[str], weights: NDArray[np.int64] | None, with_images: bool
) -> ProtocolScores:
    values = pool.values()
    spread = pool.resampled(weights) if weights is not None else {}
    results = []
    for spec in protocol.metrics:
        value = values[spec.name]
        low, high = (None, None) if value.value is None else interval(spread.get(spec.name))
        results.append(
            MetricResult(spec.name, value.value, value.reason, spec.unit, spec.higher_is_better, low, high, len(keys))
        )
    params = dataclasses.asdict(protocol.params)
    images = tuple(pool.images(keys)) if with_images else ()
    return ProtocolScores(protocol.name, protocol.version, params, tuple(results), images)
