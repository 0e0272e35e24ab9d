"""``voc``: average precision of masks as the instance segmentation papers after MNC report it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import UsageError
from bench.metrics import curves
from bench.metrics.curves import Curve, Ranking, nan_mean
from bench.metrics.matching import Match, Pairs
from bench.metrics.protocol import NO_SCORES, Pool, Protocol, Value, check_thresholds, threshold_name
from bench.metrics.types import ImageMetric, MetricSpec


@dataclass(frozen=True)
class VocParams:
    """Parameters of :class:`Voc`.

    Attributes:
        thresholds: IoU thresholds.
        strict: whether a match needs IoU > t, or IoU >= t: public implementations differ.
        interpolation: ``voc07`` (11 points) or ``area`` (under the curve): which one is called AP; the other is
            reported beside it.
    """

    thresholds: tuple[float, ...] = (0.5, 0.7)
    strict: bool = True
    interpolation: str = "voc07"

    def __post_init__(self) -> None:
        check_thresholds("voc", self.thresholds)
        if self.interpolation not in ("voc07", "area"):
            raise UsageError(f"protocol voc: interpolation={self.interpolation!r}", "it is voc07 (11 points) or area")


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Of one image: its predictions in order of score, and which are true positives at which threshold."""

    scores: NDArray[np.float64]
    classes: NDArray[np.int32]
    iou: NDArray[np.float64]
    hit: NDArray[np.bool_]  # (thresholds, predictions)
    truths: NDArray[np.int64]  # (classes,)


class Voc(Protocol):
    """AP@t and IoU@t of masks, as they are, overlaps included.

    The predictions of all images are ranked by score. Each takes the truth of its image and class with the highest
    IoU; it is a true positive if that IoU exceeds t and no prediction before it took that truth; else it is a false
    positive: there is no second choice. AP@t is the mean over the classes that have truths. IoU@t is the mean IoU of
    the true positives, pooled over images and classes. Without scores AP is not applicable, and for IoU@t the
    prediction with the highest IoU comes first. Equal scores rank in the order of the images, then of the
    predictions. Predictions of which more than half lies in a crowd region are left out.
    """

    name = "voc"
    version = "1"
    title = "PASCAL VOC, masks"
    source = (
        "Everingham et al., IJCV 88 (2010), section 4.2; Hariharan et al., SDS, ECCV 2014, section 5; "
        "Yi et al. 2018, section 4.2"
    )
    empties = "pooled: an image without truth adds only its false positives; no truth at all leaves AP undefined"
    overlaps: ClassVar[bool] = True
    Params = VocParams
    params: VocParams

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """AP@t, IoU@t, the other AP, and AP of each class where there are several."""
        other = "area" if self.params.interpolation == "voc07" else "voc07"
        rules = {"voc07": "mean precision at 11 recall levels", "area": "area under the precision-recall curve"}
        no_truth = "undefined: there is no truth instance"
        names = [threshold_name(t) for t in self.params.thresholds]
        specs = [
            MetricSpec(f"AP@{t}", True, f"{rules[self.params.interpolation]}, mask IoU {t}", no_truth) for t in names
        ]
        specs += [
            MetricSpec(
                f"IoU@{t}", True, f"mean IoU of the true positives at {t}", "undefined: there is no true positive"
            )
            for t in names
        ]
        specs += [MetricSpec(f"AP_{other}@{t}", True, f"{rules[other]}, mask IoU {t}", no_truth) for t in names]
        if len(self.classes) > 1:
            specs += [
                MetricSpec(
                    f"AP@{t}/{c}", True, f"AP@{t} of class {c}", f"undefined: there is no truth instance of class {c}"
                )
                for t in names
                for c in self.classes
            ]
        return tuple(specs)

    def measure(self, match: Match) -> _Evidence:
        """The verdict on every prediction at every threshold."""
        kept = ~match.truth.crowd
        judged = np.flatnonzero(~match.in_crowd)
        pairs = match.pairs
        same = kept[pairs.truth] & (match.truth.class_ids[pairs.truth] == match.prediction.class_ids[pairs.prediction])
        scores = match.prediction.scores
        truth, iou = _best(pairs, same, len(match.prediction), scores, min(self.params.thresholds))
        truth, iou = truth[judged], iou[judged]
        ranked = curves.order(iou if scores is None else scores[judged])
        judged, truth, iou = judged[ranked], truth[ranked], iou[ranked]
        hit = np.zeros((len(self.params.thresholds), judged.size), np.bool_)
        for row, threshold in enumerate(self.params.thresholds):
            good = np.flatnonzero(iou > threshold if self.params.strict else (iou >= threshold) & (truth >= 0))
            first = good[np.unique(truth[good], return_index=True)[1]]
            hit[row, first] = True
        return _Evidence(
            np.zeros(judged.size) if scores is None else scores[judged],
            match.prediction.class_ids[judged].astype(np.int32),
            iou,
            hit,
            np.bincount(match.truth.class_ids[kept], minlength=len(self.classes)),
        )

    def pool(self, evidence: Sequence[_Evidence], scored: bool) -> Pool:
        """Rank the predictions of all images."""
        return _VocPool(self, evidence, scored)


def _best(
    pairs: Pairs, usable: NDArray[np.bool_], count: int, scores: NDArray[np.float64] | None, floor: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each of ``count`` predictions the truth with the highest IoU or -1, and that IoU.

    Where several truths are equally good (an object annotated twice), the predictions that want them get one each, the
    surest first, as far as they go. Below ``floor`` it does not matter.
    """
    truth, prediction, iou = pairs.truth[usable], pairs.prediction[usable], pairs.iou[usable]
    best, value = np.full(count, -1), np.zeros(count)
    ascending = np.lexsort((-truth, iou))
    best[prediction[ascending]] = truth[ascending]
    value[prediction[ascending]] = iou[ascending]
    equal = (iou == value[prediction]) & (iou >= floor)
    options = np.bincount(prediction[equal], minlength=count)
    if (options > 1).any():
        wanted = np.flatnonzero(equal)
        wanted = wanted[np.argsort(prediction[wanted], kind="stable")]
        ends = np.cumsum(options).tolist()
        taken = set()
        for wanting in curves.order(value if scores is None else scores).tolist():
            if options[wanting]:
                choice = truth[wanted[ends[wanting] - options[wanting] : ends[wanting]]].tolist()
                best[wanting] = next((t for t in choice if t not in taken), choice[0])
                taken.add(int(best[wanting]))
    return best, value


class _VocPool(Pool):
    def __init__(self, protocol: Voc, evidence: Sequence[_Evidence], scored: bool) -> None:
        self._protocol = protocol
        self._evidence = evidence
        self._scored = scored
        width = max((e.truths.size for e in evidence), default=1)
        self._truths = np.array([np.pad(e.truths, (0, width - e.truths.size)) for e in evidence])
        image = np.repeat(np.arange(len(evidence)), [e.scores.size for e in evidence])
        scores = np.concatenate([e.scores for e in evidence])
        classes = np.concatenate([e.classes for e in evidence])
        hit = np.concatenate([e.hit for e in evidence], axis=1)
        ranked = curves.order(scores)
        image, classes, hit = image[ranked], classes[ranked], hit[:, ranked]
        self._rankings: dict[int, Ranking] = {}
        for label in np.flatnonzero(self._truths.any(axis=0)).tolist():
            mine = classes == label
            of_threshold = [Curve(None, np.flatnonzero(row[mine]), self._truths[:, label]) for row in hit]
            self._rankings[label] = Ranking(image[mine], of_threshold)
        # Sums of IoU of the true positives and their number, an image a row.
        self._sums = [
            ([math.fsum(e.iou[e.hit[row]]) for e in evidence], [int(e.hit[row].sum()) for e in evidence])
            for row in range(len(protocol.params.thresholds))
        ]

    def values(self) -> dict[str, Value]:
        found: dict[str, Any] = {}
        for row, name in enumerate(self._names()):
            per_class = {label: _average(ranking.curves[row]) for label, ranking in self._rankings.items()}
            for rule, prefix in self._rules():
                found[f"{prefix}@{name}"] = _mean([values[rule] for values in per_class.values()])
            counts = self._sums[row][1]
            exact = math.fsum(np.concatenate([e.iou[e.hit[row]] for e in self._evidence]).tolist())
            found[f"IoU@{name}"] = exact / sum(counts) if sum(counts) else math.nan
            rule = self._protocol.params.interpolation
            for label, title in enumerate(self._protocol.classes):
                found[f"AP@{name}/{title}"] = per_class[label][rule] if label in per_class else math.nan
        return {spec.name: self._value(spec, found[spec.name]) for spec in self._protocol.metrics}

    def _value(self, spec: MetricSpec, number: float) -> Value:
        if spec.name.startswith("AP") and not self._scored:
            return Value(None, NO_SCORES)
        return Value(None, spec.undefined) if math.isnan(number) else Value(float(number))

    def resampled(self, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        found: dict[str, NDArray[np.float64]] = {}
        drawn = {
            label: ranking.resampled(weights, curves.eleven_points, area=True)
            for label, ranking in self._rankings.items()
        }
        for row, name in enumerate(self._names()):
            per_class = {label: {"voc07": at[row], "area": area[row]} for label, (at, area) in drawn.items()}
            for rule, prefix in self._rules():
                found[f"{prefix}@{name}"] = nan_mean([v[rule] for v in per_class.values()], len(weights))
            sums, counts = (weights @ np.array(column, np.float64) for column in self._sums[row])
            found[f"IoU@{name}"] = np.divide(sums, counts, out=np.full(len(weights), np.nan), where=counts > 0)
            rule = self._protocol.params.interpolation
            for label, title in enumerate(self._protocol.classes):
                if label in per_class:
                    found[f"AP@{name}/{title}"] = per_class[label][rule]
        wanted = {s.name for s in self._protocol.metrics if self._scored or not s.name.startswith("AP")}
        return {name: values for name, values in found.items() if name in wanted}

    def images(self, keys: Sequence[str]) -> list[ImageMetric]:
        found = []
        for row, name in enumerate(self._names()):
            for key, evidence, iou_sum in zip(keys, self._evidence, self._sums[row][0], strict=True):
                tp = int(evidence.hit[row].sum())
                counts = tp, evidence.scores.size - tp, int(evidence.truths.sum()) - tp
                average = self._image_average(evidence, row) if self._scored else None
                found.append(ImageMetric(key, f"AP@{name}", average, *counts))
                found.append(ImageMetric(key, f"IoU@{name}", iou_sum / tp if tp else None, *counts))
        return found

    def _image_average(self, evidence: _Evidence, row: int) -> float | None:
        values = []
        for label in np.flatnonzero(evidence.truths).tolist():
            mine = evidence.classes == label
            curve = Curve(None, np.flatnonzero(evidence.hit[row, mine]), evidence.truths[label : label + 1])
            values.append(_average(curve)[self._protocol.params.interpolation])
        return _mean(values) if values else None

    def _names(self) -> list[str]:
        return [threshold_name(t) for t in self._protocol.params.thresholds]

    def _rules(self) -> list[tuple[str, str]]:
        first = self._protocol.params.interpolation
        other = "area" if first == "voc07" else "voc07"
        return [(first, "AP"), (other, f"AP_{other}")]


def _average(curve: Curve) -> dict[str, float]:
    """AP by each rule."""
    return {"voc07": float(curve.levels(curves.eleven_points).sum()) / 11, "area": curve.area()}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
